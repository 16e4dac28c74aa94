//! The plugin's binary on files and on stdin.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder of its own for one test, gone with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("stint-plugin-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file and gives back its name.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub fn run(&self, args: &[&str]) -> Output {
        run(&self.0, args, "")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What an API server answers: status, body, and further headers.
pub type Answer = (u16, Value, &'static str);

/// Answers one request after the other as the API server would, and gives back what was asked.
pub fn api_server(folder: &Folder, answers: Vec<Answer>) -> std::thread::JoinHandle<Vec<String>> {
    let listener = listen(folder);
    std::thread::spawn(move || {
        let answers = answers.into_iter();
        answers
            .map(|answer| exchange(&listener, |_| answer))
            .collect()
    })
}

/// Answers every request as `answer` says, which sees method, path and body, for as long as the test runs.
pub fn api_server_that(folder: &Folder, mut answer: impl FnMut(&str) -> Answer + Send + 'static) {
    let listener = listen(folder);
    std::thread::spawn(move || {
        loop {
            exchange(&listener, &mut answer);
        }
    });
}

/// A server on a free port, and a kubeconfig for it in the folder.
fn listen(folder: &Folder) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    kubeconfig(folder, address);
    listener
}

/// A kubeconfig in the folder, for a server at this address.
pub fn kubeconfig(folder: &Folder, address: SocketAddr) {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "k", "cluster": {"server": format!("http://{address}")}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "payments"}}]
    });
    folder.file("kubeconfig", kubeconfig.to_string());
}

/// One request and its answer.
fn exchange(listener: &TcpListener, answer: impl FnOnce(&str) -> Answer) -> String {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream);
    let mut asked = String::new();
    reader.read_line(&mut asked).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        asked.push_str(&line);
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut sent = vec![0; length];
    reader.read_exact(&mut sent).unwrap();
    asked.push_str(&String::from_utf8(sent).unwrap());
    let (code, body, headers) = answer(&asked);
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
    asked
}

pub fn run(folder: &Path, args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(program())
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A run that does not want its stdin closes it.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    child.wait_with_output().unwrap()
}

pub fn lint_text(text: &str, more: &[&str]) -> (i32, String) {
    let folder = Folder::new();
    let args: Vec<&str> = ["lint", "-"].iter().chain(more).copied().collect();
    let output = run(&folder.0, &args, text);
    (status(&output), stdout(&output) + &stderr(&output))
}

pub fn lint_json(text: &str) -> Value {
    let folder = Folder::new();
    let output = run(&folder.0, &["lint", "-", "-o", "json"], text);
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn status(output: &Output) -> i32 {
    output.status.code().expect("ended by itself")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A stream of documents as JSON, which is YAML too.
pub fn stream(objects: &[Value]) -> String {
    let documents: Vec<String> = objects.iter().map(|o| format!("{o:#}")).collect();
    documents.join("\n---\n")
}

/// The outcome, and the codes of the errors, of the object of this name.
pub fn verdict(report: &Value, name: &str) -> (String, Vec<String>) {
    let objects = report["objects"].as_array().unwrap();
    let object = objects.iter().find(|o| o["name"] == name).unwrap();
    let findings = object["findings"].as_array().unwrap();
    let errors = findings.iter().filter(|f| f["level"] == "error");
    let codes = errors
        .map(|f| f["code"].as_str().unwrap().to_owned())
        .collect();
    (object["outcome"].as_str().unwrap().to_owned(), codes)
}

pub fn rbac(kind: &str, more: Value) -> Value {
    let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "x", "namespace": "payments"}});
    if kind.starts_with("Cluster") {
        object["metadata"] = json!({"name": "x"});
    }
    object
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    object
}

/// The plugin, beside the folder of the test binary that runs it.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    folder.join("kubectl-stint")
}

/// Aliases of aliases in YAML: a few lines, and more values than a machine holds.
pub fn bomb() -> String {
    let mut text = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (of, name) in ('a'..='l').zip('b'..) {
        let aliases = vec![format!("*{of}"); 9].join(",");
        text.push_str(&format!("{name}: &{name} [{aliases}]\n"));
    }
    text
}
