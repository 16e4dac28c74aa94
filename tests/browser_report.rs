//! The page of `kubectl stint report` in a real browser, without any network. Where no browser is installed, this is said and not run.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::audit::{log, refused, with};
use support::browser::{Browser, ENTER};
use support::plugin::*;
use support::project;
use support::review::{self, Held};

/// Largest picture of the docs.
const LARGEST: u64 = 200_000;

type Row = BTreeMap<String, String>;

/// Makes a page and opens it.
fn open(browser: &Browser, folder: &Folder, held: Held) -> Vec<Row> {
    let output = held.report(folder, &["-f", "report.html"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let file = folder.0.join("report.html");
    browser.go(&file);
    review::html(&std::fs::read_to_string(file).unwrap())
}

/// How many rows the page says it shows.
fn shown(browser: &Browser) -> usize {
    let count = browser.texts("#count").remove(0);
    count.split(' ').next().unwrap().parse().unwrap()
}

/// The texts of a column of the table, from its first page.
fn column(browser: &Browser, key: &str) -> Vec<String> {
    let heads =
        browser.value("[...document.querySelectorAll('#rows thead th')].map(th => th.dataset.key)");
    let at = heads
        .as_array()
        .unwrap()
        .iter()
        .position(|head| head == key)
        .unwrap()
        + 1;
    browser.texts(&format!("#rows tbody tr > :nth-child({at})"))
}

fn having(rows: &[Row], fits: impl Fn(&Row) -> bool) -> usize {
    rows.iter().filter(|row| fits(row)).count()
}

#[test]
fn ten_thousand_grants_are_searched_filtered_sorted_and_drawn_without_a_network() {
    let Some(browser) = Browser::start("browser_report") else {
        return;
    };
    let folder = Folder::new();
    let rows = open(&browser, &folder, review::many(10_000));
    assert_eq!(browser.value("navigator.onLine"), false);
    assert_eq!(shown(&browser), rows.len());
    assert_eq!(column(&browser, "account").len(), 50, "a page at a time");
    let nodes = browser.value("document.querySelectorAll('*').length");
    assert!(nodes.as_u64().unwrap() < 5_000, "{nodes} elements");

    // Search: every word, anywhere in the row.
    browser.keys("#search", "Service-123 ROLL build");
    let expected = having(&rows, |row| {
        row.values().any(|text| text.contains("service-123")) && row["reason"].contains("roll")
    });
    assert!(expected > 0 && expected < 50);
    assert_eq!(shown(&browser), expected);
    browser.click("button[type=reset]");
    browser.value("new Promise(done => setTimeout(done, 0))");
    assert_eq!(shown(&browser), rows.len());

    // Filter: risk, namespace and what is shown, together.
    browser.select("risk", "High");
    browser.select("namespace", "team-7");
    assert_eq!(
        shown(&browser),
        having(&rows, |row| row["risk"] == "High"
            && row["namespace"] == "team-7")
    );
    browser.select("show", "standing");
    assert_eq!(
        shown(&browser),
        having(&rows, |row| row["risk"] == "High"
            && row["namespace"] == "team-7"
            && row["record"] == "standing")
    );
    browser.click("button[type=reset]");
    browser.keys("#account", "team-5/worker-2");
    assert_eq!(
        shown(&browser),
        having(&rows, |row| row["account"].contains("team-5/worker-2"))
    );
    browser.click("button[type=reset]");
    browser.select("show", "residual");
    assert_eq!(
        shown(&browser),
        having(&rows, |row| !row["residual"].is_empty())
    );
    browser.click("button[type=reset]");

    // Sort: twice is the other way, and what has no value comes last.
    browser.click("th[data-key=ended] button");
    let mut ends: Vec<&str> = rows
        .iter()
        .map(|row| row["ended"].as_str())
        .filter(|end| !end.is_empty())
        .collect();
    ends.sort_unstable();
    let first = |end: &str| column(&browser, "ended")[0].starts_with(&end.replace('T', " "));
    assert!(
        first(ends[0]),
        "{} {:?}",
        ends[0],
        column(&browser, "ended")[0]
    );
    browser.click("th[data-key=ended] button");
    assert!(first(ends[ends.len() - 1]));
    assert_eq!(
        browser.value("document.querySelector('th[data-key=ended]').getAttribute('aria-sort')"),
        "descending"
    );
    browser.click("th[data-key=risk] button");
    assert!(column(&browser, "risk").iter().all(|risk| risk == "High"));

    // Pages, and the timeline of the one that is shown.
    browser.click("#after");
    assert!(browser.texts("#page")[0].starts_with("Page 2 of "));
    assert_eq!(browser.texts("#timeline svg rect").len(), 50);

    // An account, by the keyboard: everything that it holds, and no more than fits.
    browser.keys("#rows tbody tr:first-child button", ENTER);
    assert_eq!(browser.value("document.activeElement.id"), "chosen");
    let account = column(&browser, "account").remove(0);
    let texts = browser.texts("#graph svg g text");
    assert!(
        texts[0] == account && texts.len() > 4 && texts.len() < 80,
        "{texts:?}"
    );
    assert!(
        browser
            .texts("#details dt")
            .contains(&"Decisions".to_owned())
    );
    browser.click("#close");
    assert_eq!(
        browser.value("document.getElementById('chosen').hidden"),
        true
    );

    // On paper there are more rows than on a page.
    browser.value("dispatchEvent(new Event('beforeprint'))");
    assert_eq!(column(&browser, "account").len(), 2_000);
    browser.value("dispatchEvent(new Event('afterprint'))");
    assert_eq!(column(&browser, "account").len(), 50);

    // Measured for whoever reads; nothing passes or fails by it.
    let search = "(() => { const s = document.getElementById('search'); const at = performance.now(); s.value = 'build 5';
        s.dispatchEvent(new Event('input', {bubbles: true})); return Math.round(performance.now() - at); })()";
    let loaded = "Math.round(performance.getEntriesByType('navigation')[0].loadEventEnd)";
    let (loaded, search) = (browser.value(loaded), browser.value(search));
    eprintln!("loaded after {loaded} ms, searched in {search} ms");

    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        let paper = browser.value("getComputedStyle(document.body).backgroundColor");
        assert_eq!(
            paper,
            if scheme == "light" {
                "rgb(255, 255, 255)"
            } else {
                "rgb(20, 24, 31)"
            }
        );
    }
    assert_eq!(
        browser.value("performance.getEntriesByType('resource').length"),
        0,
        "nothing was fetched"
    );
    assert_eq!(browser.complaints(), [""; 0]);
}

/// A picture for whoever looks, and with `UPDATE=1` the one of the docs.
fn keep(browser: &Browser, name: &str) {
    let of_docs = std::env::var("UPDATE").is_ok_and(|set| set == "1");
    let folder = match of_docs {
        true => project().join("docs/images"),
        false => env!("CARGO_TARGET_TMPDIR").into(),
    };
    let file = folder.join(format!("{name}.png"));
    browser.picture(&file);
    let size = std::fs::metadata(&file).unwrap().len();
    assert!(!of_docs || size <= LARGEST, "{name}.png has {size} bytes");
}

/// The grants of the last hours: most are over, some last; and standing rights of a few accounts, made in the same time.
fn day() -> Held {
    let now = Timestamp::now();
    let at = |minutes: i64| (now + SignedDuration::from_mins(minutes)).to_string();
    let request = |n: i64| {
        let (start, name) = (n * 10 - 500, format!("deploy-{n}"));
        let (mut object, end) = match n % 6 {
            0 => (review::active(&name), 60 + n * 5),
            _ => (review::expired(&name), start + 30),
        };
        let (namespace, account) = [
            ("payments", "migrator"),
            ("search", "indexer"),
            ("ci", "runner"),
        ][usize::try_from((n + n / 6) % 3).unwrap()];
        object["metadata"]["namespace"] = namespace.into();
        object["metadata"]["creationTimestamp"] = at(start).into();
        object["spec"]["serviceAccountRef"]["name"] = account.into();
        object["spec"]["reason"] = format!("roll out build {}", 48_000 + n).into();
        object["spec"]["ticket"] = format!("CHG-{}", 1_800 + n).into();
        let status = &mut object["status"];
        status["requestedBy"] = ["alice", "bob", "dora"][usize::try_from(n % 3).unwrap()].into();
        status["risk"] = ["Low", "High", "Medium"][usize::try_from(n / 12 % 3).unwrap()].into();
        status["activatedTime"] = at(start).into();
        status["approvals"][0]["time"] = at(start).into();
        status["notAfter"] = at(end).into();
        if !status["endedTime"].is_null() {
            status["endedTime"] = at(end).into();
            status["conditions"][0]["message"] = format!("access ended at {}", at(end)).into();
        }
        object
    };
    let mut held = review::some();
    held.requests = (0..46).map(request).collect();
    held.wide.clear();
    held.approvals.clear();
    for binding in held.bindings.iter_mut().chain(&mut held.cluster_bindings) {
        binding["metadata"]["creationTimestamp"] = at(-520).into();
    }
    held
}

#[test]
fn the_page_fits_a_window_in_light_and_in_dark() {
    let Some(browser) = Browser::start("browser_report") else {
        return;
    };
    let folder = Folder::new();
    open(&browser, &folder, day());
    browser.size(1440, 1180);
    for (scheme, name) in [("light", "report"), ("dark", "report-dark")] {
        browser.prefer(scheme);
        let wide = browser.value("document.documentElement.scrollWidth > innerWidth");
        assert_eq!(wide, false, "nothing of the page is beside the window");
        keep(&browser, name);
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn what_somebody_wrote_is_text_in_a_browser() {
    let Some(browser) = Browser::start("browser_report") else {
        return;
    };
    let folder = Folder::new();
    let text = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> {{data}}";
    let mut held = review::some();
    for field in ["reason", "ticket"] {
        held.requests[0]["spec"][field] = text.into();
    }
    held.requests[0]["spec"]["serviceAccountRef"]["name"] = text.into();
    held.requests[0]["status"]["requestedBy"] = text.into();
    held.requests[0]["metadata"]["name"] = text.into();
    open(&browser, &folder, held);
    let of = |key: &str| {
        column(&browser, key)
            .into_iter()
            .find(|cell| cell.contains(text))
    };
    for key in ["name", "account", "reason", "requested_by"] {
        assert!(of(key).is_some(), "{key}");
    }
    let at = column(&browser, "account")
        .iter()
        .position(|cell| cell.contains(text))
        .unwrap()
        + 1;
    browser.click(&format!("#rows tbody tr:nth-child({at}) button"));
    assert!(
        browser
            .texts("#details dd")
            .iter()
            .any(|cell| cell.contains(text))
    );
    assert!(
        browser
            .texts("#graph title")
            .iter()
            .any(|cell| cell.contains(text))
    );
    assert_eq!(browser.value("document.title"), "Access review");
    let elements = browser.value("[document.scripts.length, document.images.length]");
    assert_eq!(elements, json!([2, 0]));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn what_was_not_used_and_what_was_refused_are_shown_searched_and_sorted() {
    let Some(browser) = Browser::start("browser_report") else {
        return;
    };
    let at = |mut event: Value, time: &str| {
        event["requestReceivedTimestamp"] = format!("2026-11-01T{time}.000000Z").into();
        event
    };
    let hostile = "<img\"onerror='document.title=1'>";
    let reason = "RBAC: allowed by RoleBinding \"stint-now/payments\" of Role \"r\" to ServiceAccount \"a/b\"";
    let words = [("/annotations/authorization.k8s.io~1reason", json!(reason))];
    let events = [
        at(
            with("get deployments.apps payments/billing-api", &words),
            "12:40:00",
        ),
        at(refused("delete nodes node-1"), "12:30:00"),
        at(refused("delete nodes node-1"), "12:35:00"),
        at(refused(&format!("get pods payments/{hostile}")), "13:00:00"),
    ];
    let folder = Folder::new();
    folder.file("audit.log", log(&events));
    let args = ["-f", "report.html", "--audit-log", "audit.log"];
    let output = review::some().report(&folder, &args);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let file = folder.0.join("report.html");
    browser.go(&file);
    let rows = review::html(&std::fs::read_to_string(&file).unwrap());
    let about = browser.texts("section[aria-label='The audit log'] li");
    assert!(
        about[0].starts_with("4 events of 1 log, from 2026-11-01T12:30:00Z")
            && about
                .last()
                .unwrap()
                .contains("is not proven to be unneeded"),
        "{about:?}"
    );

    // Every word of it is found.
    browser.keys("#search", "node-1 DELETE");
    assert_eq!(shown(&browser), 1);
    assert_eq!(column(&browser, "name"), ["delete nodes node-1refused"]);
    assert_eq!(column(&browser, "requests"), ["2"]);
    assert_eq!(column(&browser, "last_request"), ["2026-11-01 12:35:00Z"]);
    browser.click("button[type=reset]");
    browser.value("new Promise(done => setTimeout(done, 0))");

    browser.select("show", "attempts");
    assert_eq!(shown(&browser), 2);
    assert!(
        column(&browser, "name")
            .iter()
            .any(|name| name.contains(hostile))
    );
    browser.select("show", "unused");
    let unused = having(&rows, |row| {
        !["", "nothing", "unknown"].contains(&row["unused"].as_str())
    });
    assert_eq!((shown(&browser), unused), (7, 7));
    browser.select("show", "idle");
    assert_eq!(shown(&browser), 6, "one of them was used in part");
    browser.select("show", "live");
    browser.click("th[data-key=requests] button");
    browser.click("th[data-key=requests] button");
    assert_eq!(column(&browser, "requests")[0], "1");
    assert_eq!(
        column(&browser, "unused")[0],
        "patch deployments.apps named billing-apilog covers not its beginning, not up to now"
    );

    // An attempt is no right that the account holds, and all of it is told.
    browser.click("button[type=reset]");
    browser.value("new Promise(done => setTimeout(done, 0))");
    browser.keys("#search", "node-1");
    browser.click("#rows tbody tr:first-child button");
    assert_eq!(
        browser.texts("#chosen-head"),
        ["payments/migrator: refused delete nodes"]
    );
    let told = browser.texts("#details dt");
    for head in [
        "Refused verb",
        "Refused resource",
        "Refused object",
        "First request",
    ] {
        assert!(told.contains(&head.to_owned()), "{head}: {told:?}");
    }
    let nodes = browser.texts("#graph title");
    assert!(
        !nodes.iter().any(|node| node.contains("Forbidden")),
        "{nodes:?}"
    );
    assert_eq!(browser.value("document.title"), "Access review");
    assert_eq!(browser.complaints(), [""; 0]);
    keep(&browser, "report-usage");
}

#[test]
fn every_control_has_a_name_and_every_cell_a_head() {
    let Some(browser) = Browser::start("browser_report") else {
        return;
    };
    let folder = Folder::new();
    open(&browser, &folder, review::some());
    let unnamed = browser.value(
        "[...document.querySelectorAll('input, select, button, [role=region], svg')]
            .filter(e => !(e.textContent.trim() && e.tagName === 'BUTTON') && !(e.labels && e.labels.length)
                && !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby')).map(e => e.outerHTML)",
    );
    assert_eq!(unnamed, json!([]));
    let heads = browser.value("[...document.querySelectorAll('#rows th')].every(th => th.scope)");
    assert_eq!(heads, Value::Bool(true));
    let languages = browser.value("document.documentElement.lang");
    assert_eq!(languages, "en");
}
