//! Finds, fetches, checks and loads ONNX Runtime's shared library. In: the user's path, if any, and the distribution. Out: a loaded
//! [`Library`], or an error within seconds. It must not open a file it neither pinned nor tried in a child process.
//!
//! It is searched in this order: the job's `[model] library`, the environment variable [`LIBRARY_VARIABLE`], the folder of the
//! executable, the per-user cache. If there is none, the PyPI wheel is fetched once, with pip, into the cache.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::machine::cache::{cache_folders, writable_cache};
use crate::machine::environment::variable;
use crate::machine::hash::sha256_of;
use crate::model::runtime::distribution::{Distribution, LIBRARY_VARIABLE, VERSION};
use crate::model::runtime::wheel::{fetch, note_checked, pinned_version, unharmed, wheel};

/// The hidden command by which the program tries a library in a child process.
pub const PROBE_COMMAND: &str = "__probe-onnxruntime";

/// How long a library that is not pinned can take to load in the child process.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// ONNX Runtime, loaded; there is one per process.
#[derive(Debug, Clone)]
pub struct Library {
    /// The loaded file.
    pub path: PathBuf,
    /// Its version, or its own description if it is not pinned.
    pub version: String,
    environment: ort::environment::Environment,
}

static LOADED: OnceLock<Library> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

impl Library {
    /// Finds or fetches the library and loads it; a second call returns the loaded one. A fetch is logged.
    pub fn load(setting: Option<&Path>, distribution: Distribution) -> Result<Self> {
        let _guard = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = LOADED.get() {
            return Ok(loaded.clone());
        }
        let path = locate(setting, distribution)?;
        let library = open(&path)?;
        Ok(LOADED.get_or_init(|| library).clone())
    }

    /// The environment of the sessions.
    pub const fn environment(&self) -> &ort::environment::Environment {
        &self.environment
    }
}

/// Loads the library at `path` without checks: for the child process that tries an unknown one.
pub fn open(path: &Path) -> Result<Library> {
    let refuse = |cause: String| Error::Library {
        reason: format!("`{}` does not load: {cause}", path.display()),
        hint: format!("name a library of ONNX Runtime {VERSION} or newer, or none to have the pinned one fetched"),
        retry: false,
    };
    let builder = ort::init_from(path).map_err(|error| refuse(error.to_string()))?;
    let environment = builder.with_telemetry(false).build().map_err(|error| refuse(error.to_string()))?;
    let pinned = sha256_of(path).ok().and_then(|hash| pinned_version(&hash));
    let version = pinned.unwrap_or_else(ort::info).to_owned();
    Ok(Library { path: path.into(), version, environment })
}

/// A library on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// The setting or place that named it.
    pub origin: &'static str,
    /// Whether its SHA-256 is that of the pinned release; in the cache, also those of the files that it loads.
    pub pinned: bool,
}

/// The release that is fetched.
pub fn release(distribution: Distribution) -> &'static str {
    wheel(distribution).map_or(VERSION, |wheel| wheel.version)
}

/// [`Found::origin`] of a fetched library.
const CACHE: &str = "the per-user cache";

/// Searches for the library without fetching it; none if a run would have to fetch it.
pub fn find(setting: Option<&Path>, distribution: Distribution) -> Result<Option<Found>> {
    let named = setting.map(|path| (path.to_path_buf(), "the job's `[model] library`"));
    let set = || variable(LIBRARY_VARIABLE).map(|path| (PathBuf::from(path), LIBRARY_VARIABLE));
    if let Some((path, origin)) = named.or_else(set) {
        return named_library(&path, origin).map(Some);
    }
    let wheel = wheel(distribution)?;
    let (name, _) = wheel.files[0];
    let beside =
        std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name))).filter(|path| path.is_file());
    if let Some(path) = beside {
        return named_library(&path, "the folder of the executable").map(Some);
    }
    // The last one is this process's own, if the cache cannot be written.
    let folders = cache_folders().into_iter().rev().map(|cache| cache.join(wheel.folder()));
    let Some(folder) = folders.into_iter().find(|folder| folder.join(name).is_file()) else { return Ok(None) };
    Ok(Some(Found { path: folder.join(name), origin: CACHE, pinned: unharmed(wheel, &folder)? }))
}

/// Searches for the library, tries one that is not pinned in a child process, and fetches one if there is none.
pub fn locate(setting: Option<&Path>, distribution: Distribution) -> Result<PathBuf> {
    match find(setting, distribution)? {
        Some(found) if found.pinned => {
            if let (CACHE, Some(folder)) = (found.origin, found.path.parent()) {
                note_checked(wheel(distribution)?, folder);
            }
            return Ok(found.path);
        }
        Some(found) if found.origin != CACHE => return tried(found),
        Some(damaged) => tracing::info!("`{}` is damaged and is fetched again", damaged.path.display()),
        None => {}
    }
    let wheel = wheel(distribution)?;
    let folder = writable_cache()?.join(wheel.folder());
    fetch(wheel, &folder)?;
    Ok(folder.join(wheel.files[0].0))
}

fn misnamed(origin: &str, reason: String) -> Error {
    let hint = format!("it comes from {origin}; correct that, or leave it out to have ONNX Runtime {VERSION} fetched");
    Error::Library { reason, hint, retry: false }
}

/// A library that a setting names.
fn named_library(path: &Path, origin: &'static str) -> Result<Found> {
    let path = path
        .canonicalize()
        .map_err(|error| misnamed(origin, format!("no library at `{}`: {error}", path.display())))?;
    let pinned = pinned_version(&sha256_of(&path)?).is_some();
    Ok(Found { path, origin, pinned })
}

/// Tries a library that is not pinned in a child process first.
fn tried(found: Found) -> Result<PathBuf> {
    try_library(&found.path, &[], PROBE_LIMIT).map_err(|reason| misnamed(found.origin, reason))?;
    Ok(found.path)
}

/// Loads a library in a child process and returns the child's description of it; an error for people if it fails or takes longer than
/// `limit`. `more` are further arguments of the probe.
pub fn try_library(library: &Path, more: &[&str], limit: Duration) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot start the probe: {error}"))?;
    try_in_child(&program, library, more, limit)
}

fn try_in_child(program: &Path, library: &Path, more: &[&str], limit: Duration) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg(PROBE_COMMAND).arg(library).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot try `{}`: {error}", library.display()))?;
    let status = ended_within(&mut child, limit)
        .ok_or_else(|| format!("`{}` did not load within {} s", library.display(), limit.as_secs()))?;
    let mut said = String::new();
    if status.success() {
        if let Some(stdout) = &mut child.stdout {
            let _ = stdout.take(4096).read_to_string(&mut said);
        }
        return Ok(said);
    }
    if let Some(stderr) = &mut child.stderr {
        let _ = stderr.take(4096).read_to_string(&mut said);
    }
    // The child's error starts with the same sentence as ours, so that is removed.
    let kind = format!("error: {}", Error::Library { reason: String::new(), hint: String::new(), retry: false });
    let bare = |line: &str| line.trim_start_matches(&kind).trim_start_matches("error: ").to_owned();
    let line = said.lines().find(|line| !line.trim().is_empty()).map(bare);
    Err(line.unwrap_or_else(|| format!("`{}` made a process that loads it end with {status}", library.display())))
}

/// The exit status of a child process; none if it takes longer than `limit`, and then it is killed.
pub fn ended_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if started.elapsed() < limit => std::thread::sleep(Duration::from_millis(10)),
            _ => {
                // It hangs or its status cannot be read: do not wait for it.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_library_is_named_with_where_the_name_came_from() {
        let error = named_library(Path::new("/no/such/library.so"), LIBRARY_VARIABLE).unwrap_err();
        assert!(error.to_string().contains("no library at `/no/such/library.so`"), "{error}");
        assert!(error.hint().unwrap().contains(LIBRARY_VARIABLE));
    }

    #[test]
    fn a_child_that_hangs_is_given_up_and_one_that_fails_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let script = |name: &str, body: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            let mut permissions = fs::metadata(&path).unwrap().permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
            fs::set_permissions(&path, permissions).unwrap();
            path
        };
        let library = Path::new("lib.so");
        let slow = try_in_child(&script("slow", "sleep 30"), library, &[], Duration::from_millis(200)).unwrap_err();
        assert_eq!(slow, "`lib.so` did not load within 0 s");
        let failing = script("failing", "echo 'error: cannot use ONNX Runtime: it is torn' >&2; exit 1");
        assert_eq!(try_in_child(&failing, library, &[], PROBE_LIMIT).unwrap_err(), "it is torn");
        let crashing = try_in_child(&script("crashing", "kill -SEGV $$"), library, &[], PROBE_LIMIT).unwrap_err();
        assert!(crashing.contains("signal: 11"), "{crashing}");
        let fine = try_in_child(&script("fine", "shift 2; echo fine $*"), library, &["--more"], PROBE_LIMIT);
        assert_eq!(fine, Ok("fine --more\n".to_owned()));
    }
}
