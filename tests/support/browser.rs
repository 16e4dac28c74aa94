//! A real browser without a network, driven by the WebDriver protocol (W3C). Needs chromium and chromedriver.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::plugin::Folder;

/// Enter, as WebDriver writes keys.
pub const ENTER: &str = "\u{e007}";

/// One window. Dropping it ends the programs behind it and removes what they wrote.
pub struct Browser {
    driver: Child,
    address: String,
    session: String,
    _folder: Folder,
}

/// The programs, if both are installed.
fn programs() -> Option<(PathBuf, PathBuf)> {
    let path = std::env::var_os("PATH")?;
    let find = |names: &[&str]| {
        let places = std::env::split_paths(&path);
        let files = places.flat_map(|place| names.iter().map(move |name| place.join(name)));
        files.into_iter().find(|file| file.is_file())
    };
    let browser = find(&["chromium", "chromium-browser", "google-chrome"])?;
    Some((browser, find(&["chromedriver"])?))
}

impl Browser {
    /// A window, or none where there is no browser: then that is said, past the test harness, which hides what tests print. With
    /// `STINT_TEST_BROWSER=required` that is an error.
    pub fn start(test: &str) -> Option<Browser> {
        let Some((browser, driver)) = programs() else {
            let text = format!(
                "{test}: NOT RUN, because chromium and chromedriver are not on the PATH (Debian: chromium, chromium-driver)"
            );
            let required = std::env::var("STINT_TEST_BROWSER").is_ok_and(|v| v == "required");
            assert!(!required, "{text}");
            writeln!(std::io::stderr().lock(), "\n{text}").unwrap();
            return None;
        };
        Some(Browser::open(&browser, &driver))
    }

    fn open(browser: &Path, driver: &Path) -> Browser {
        let folder = Folder::new();
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .env("HOME", &folder.0)
            .env("XDG_CONFIG_HOME", folder.0.join("config"))
            .env("XDG_CACHE_HOME", folder.0.join("cache"))
            .env("TMPDIR", &folder.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("started successfully on port ")?;
            Some(rest.trim_end_matches('.').to_owned())
        });
        let mut browser_of = Browser {
            driver,
            address: format!("127.0.0.1:{}", port.expect("chromedriver says its port")),
            session: String::new(),
            _folder: folder,
        };
        let profile = browser_of._folder.0.join("profile");
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,900",
            // No name is found, and what has none finds nobody.
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--proxy-server=127.0.0.1:9",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"binary": browser, "args": args},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let made = browser_of.call("POST", "", &wanted);
        browser_of.session = made["sessionId"].as_str().unwrap().to_owned();
        let offline =
            json!({"offline": true, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0});
        browser_of.devtools("Network.enable", json!({}));
        browser_of.devtools("Network.emulateNetworkConditions", offline);
        browser_of
    }

    /// Opens a file.
    pub fn go(&self, file: &Path) {
        self.call(
            "POST",
            "/url",
            &json!({"url": format!("file://{}", file.display())}),
        );
    }

    /// The value of an expression in the page.
    pub fn value(&self, expression: &str) -> Value {
        let script = json!({"script": format!("return ({expression});"), "args": []});
        self.call("POST", "/execute/sync", &script)
    }

    /// The text that a reader sees of all elements.
    pub fn texts(&self, selector: &str) -> Vec<String> {
        let all = self.value(&format!(
            "[...document.querySelectorAll({selector:?})].map(e => e.textContent)"
        ));
        serde_json::from_value(all).unwrap()
    }

    /// Presses the mouse button on an element.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.call("POST", &format!("/element/{element}/click"), &json!({}));
    }

    /// Types into an element.
    pub fn keys(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.call(
            "POST",
            &format!("/element/{element}/value"),
            &json!({"text": text}),
        );
    }

    /// Chooses from a list.
    pub fn select(&self, list: &str, value: &str) {
        self.click(&format!("#{list} option[value='{value}']"));
    }

    /// What the browser complains about, such as a broken content security policy.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.call("POST", "/se/log", &json!({"type": "browser"}));
        let log = log.as_array().unwrap().iter();
        log.map(|entry| entry["message"].to_string()).collect()
    }

    /// Makes the page light or dark, as the reader's system would.
    pub fn prefer(&self, scheme: &str) {
        let feature = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", feature);
    }

    /// Makes the window so large, its frame included.
    pub fn size(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height});
        self.call("POST", "/window/rect", &size);
    }

    /// A picture of the window (PNG).
    pub fn picture(&self, file: &Path) {
        use base64::Engine;
        let picture = self.call("GET", "/screenshot", &json!({}));
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture.as_str().unwrap());
        std::fs::write(file, bytes.unwrap()).unwrap();
    }

    fn devtools(&self, command: &str, params: Value) {
        self.call(
            "POST",
            "/goog/cdp/execute",
            &json!({"cmd": command, "params": params}),
        );
    }

    fn element(&self, selector: &str) -> String {
        let by = json!({"using": "css selector", "value": selector});
        let found = self.call("POST", "/element", &by);
        let id = found.as_object().and_then(|found| found.values().next());
        id.and_then(Value::as_str)
            .unwrap_or_else(|| panic!("no {selector}: {found}"))
            .to_owned()
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let value = self.ask(method, path, body).unwrap();
        let error = value.get("error").filter(|error| !error.is_null());
        assert!(error.is_none(), "{method} {path}: {value}");
        value
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
        let session = match self.session.as_str() {
            "" => String::new(),
            session => format!("/{session}"),
        };
        let body = match method {
            "POST" => body.to_string(),
            _ => String::new(),
        };
        let mut stream = TcpStream::connect(&self.address)?;
        write!(
            stream,
            "{method} /session{session}{path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
            if line == "\r\n" || line.is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        let answer: Value = serde_json::from_slice(&answer)?;
        Ok(answer["value"].clone())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session; the driver alone would leave it running.
        let _ = self.ask("DELETE", "", &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
