//! Processes and a folder that cannot outlive the test process, whichever way it ends.
//!
//! A watchdog shell sits between the test and each component and reads from a pipe that only the test process holds
//! open. A panic, an abort or a SIGKILL makes the kernel close the pipe, and the watchdog then kills its component.
//! Each watchdog keeps a file in `<folder>/running`; `rmdir` succeeds for the last one only, and that one removes the
//! folder.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const FOLDER_WATCHDOG: &str = r#"
read -r _
rm -f "$1/running/test"
rmdir "$1/running" 2>/dev/null && rm -rf "$1"
"#;

/// Called with the folder, the name and the command. Ends when the component does, with its exit code.
const COMPONENT_WATCHDOG: &str = r#"
folder=$1 name=$2
shift 2
echo starting >"$folder/running/$name" || exit 1
exec 3<&0 </dev/null
"$@" 3<&- &
component=$!
echo "$component" >"$folder/running/$name"
{ read -r _ <&3; kill -9 "$component"; } 2>/dev/null &
pipe_reader=$!
wait "$component"
code=$?
kill -9 "$pipe_reader" 2>/dev/null
rm -f "$folder/running/$name"
rmdir "$folder/running" 2>/dev/null && rm -rf "$folder"
exit "$code"
"#;

const LOG_LINES_IN_ERRORS: usize = 25;

/// A new private folder for one cluster.
pub struct Folder {
    path: PathBuf,
    watchdog: Child,
}

impl Folder {
    /// Makes the folder under the system's temporary folder.
    pub fn create() -> Result<Folder, String> {
        let path = new_folder()?;
        // Written before the watchdog starts: a component that fails at once must not take its log away.
        write(&path.join("running/test"), "")?;
        let watchdog = watchdog(FOLDER_WATCHDOG, Stdio::null())
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("cannot start sh: {e}"))?;
        Ok(Folder { path, watchdog })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // `wait` closes the pipe first, and that is the sign to clean up.
        let _ = self.watchdog.wait();
    }
}

/// One running program of the control plane.
pub struct Component {
    name: &'static str,
    folder: PathBuf,
    watchdog: Child,
}

impl Component {
    /// Starts `program`; its output is appended to `<folder>/<name>.log`.
    pub fn start(
        folder: &Path,
        name: &'static str,
        program: &Path,
        args: &[String],
    ) -> Result<Component, String> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join(format!("{name}.log")))
            .map_err(|e| format!("cannot write the log of {name}: {e}"))?;
        let errors = log
            .try_clone()
            .map_err(|e| format!("cannot write the log of {name}: {e}"))?;
        let watchdog = watchdog(COMPONENT_WATCHDOG, log.into())
            .arg(folder)
            .arg(name)
            .arg(program)
            .args(args)
            .stderr(errors)
            .spawn()
            .map_err(|e| format!("cannot start sh for {name}: {e}"))?;
        Ok(Component {
            name,
            folder: folder.to_owned(),
            watchdog,
        })
    }

    /// Fails with the end of the log when the program is no longer running.
    pub fn check(&mut self) -> Result<(), String> {
        let exited = self
            .watchdog
            .try_wait()
            .map_err(|e| format!("cannot watch {}: {e}", self.name))?;
        match exited {
            None => Ok(()),
            Some(status) => Err(format!(
                "{} ended early ({status})\n{}",
                self.name,
                self.log_tail()
            )),
        }
    }

    /// Whether the program ended in success; `None` while it runs.
    pub fn exited(&mut self) -> Option<bool> {
        let status = self.watchdog.try_wait().ok()??;
        Some(status.success())
    }

    /// The process id of the program itself, once it runs.
    pub fn pid(&self) -> Option<u32> {
        let file = self.folder.join("running").join(self.name);
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// The last lines of the log, for error messages.
    pub fn log_tail(&self) -> String {
        let file = self.folder.join(format!("{}.log", self.name));
        let log = fs::read(&file).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES_IN_ERRORS)..];
        format!("the end of {}.log:\n  {}", self.name, tail.join("\n  "))
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        // `wait` closes the pipe first; the watchdog then kills the program and ends.
        let _ = self.watchdog.wait();
    }
}

/// As many TCP ports of 127.0.0.1 as asked for, all different and free a moment ago.
pub fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).map_err(|e| format!("no free port: {e}"))?;
        *port = listener
            .local_addr()
            .map_err(|e| format!("no free port: {e}"))?
            .port();
        held.push(listener);
    }
    Ok(ports)
}

/// Writes a file and names it when that fails.
pub fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn watchdog(script: &str, stdout: Stdio) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "watchdog"])
        .stdin(Stdio::piped())
        .stdout(stdout)
        // Own process group: Ctrl-C must end the test process, and through it, in order, the rest.
        .process_group(0);
    command
}

fn new_folder() -> Result<PathBuf, String> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let parent = std::env::temp_dir();
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("stint-cluster-{}-{number}", std::process::id()));
        // Private: it holds the credentials of the cluster's administrator.
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {
                let running = path.join("running");
                fs::create_dir(&running)
                    .map_err(|e| format!("cannot make {}: {e}", running.display()))?;
                return Ok(path);
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(format!("cannot make {}: {e}", path.display())),
        }
    }
}
