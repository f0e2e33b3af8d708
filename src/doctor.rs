//! `quarry doctor`: what works here. In: a job, a store, a model, or nothing. Out: a line for each thing that a run needs, with the
//! way out where something is wrong, within three seconds. It may not write, nor wait for what does not answer.

mod gpu;
mod input;
mod machine;
mod model;
mod report;
mod runtime;
mod space;
mod store;
mod subject;

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::cli::DoctorArgs;
use crate::console;
use crate::doctor::subject::Subject;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::job::file::ModelSection;
use crate::model::runtime::device::DeviceChoice;
use crate::model::runtime::library;

use crate::doctor::report::{Finding, Report, Said, Status};

/// One thing to look at, and what is said where it takes too long.
struct Check {
    name: &'static str,
    look: fn(&Subject, &mut Report),
    late: (Status, &'static str),
}

/// In the order in which they are shown.
const CHECKS: [Check; 7] = [
    Check { name: "machine", look: machine::look, late: (Status::Warning, "look at the load of this machine") },
    Check {
        name: "ONNX Runtime",
        look: runtime::look,
        late: (Status::Warning, "a first start may take longer: ask again; if it stays so, fetch the library anew"),
    },
    Check {
        name: "GPU",
        look: gpu::look,
        late: (Status::Warning, "look at the driver: `nvidia-smi` should answer within a second"),
    },
    Check {
        name: "model",
        look: model::look,
        late: (Status::Warning, "large files on a slow disk take longer to hash; a run checks them again"),
    },
    Check {
        name: "input",
        look: input::look,
        late: (Status::Fix, "check the network, the endpoint and the credentials in the environment"),
    },
    Check {
        name: "store",
        look: store::look,
        late: (Status::Fix, "check the network, the endpoint and the credentials in the environment"),
    },
    Check {
        name: "disk",
        look: space::look,
        late: (Status::Warning, "a file system does not answer: look at its mounts"),
    },
];

/// Looks at everything and prints what was found; 1 where something must be fixed.
pub fn command(arguments: &DoctorArgs) -> Result<u8> {
    let failed = |source: std::io::Error| Error::Engine { doing: "start the runtime".into(), source: source.into() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    let mut findings = vec![report::program()];
    let subject = subject(arguments, runtime.handle().clone(), &mut findings);
    if arguments.fetch {
        library::locate(subject.library.as_deref(), subject.likely_distribution(), &console::note)?;
    }
    findings.extend(look(subject));
    // What hangs is left behind: the process ends without it, and nothing that it waits for is taken away before.
    std::mem::forget(runtime);
    let code = u8::from(findings.iter().any(|finding| finding.status == Status::Fix));
    console::print(&if arguments.json { report::json(&findings, code)? } else { report::text(&findings) });
    Ok(code)
}

/// What is to be looked at; a job that cannot be used is the first finding.
fn subject(arguments: &DoctorArgs, runtime: Handle, findings: &mut Vec<Finding>) -> Subject {
    let job = arguments.job.as_deref().and_then(|path| match Job::read(path, &arguments.set) {
        Ok(job) => {
            let types = job.schema.types.len();
            findings.push(Finding::ok("job", format!("{}, {types} entity types", path.display())));
            Some(job)
        }
        Err(error) => {
            findings.push(Finding::error("job", &error));
            None
        }
    });
    let written = job.as_ref().map_or_else(ModelSection::default, |job| job.file.model.clone());
    Subject {
        model: arguments.model.clone().unwrap_or(written.path),
        library: written.library,
        device: job.as_ref().map_or(DeviceChoice::Auto, |job| job.device),
        store: arguments.store.clone().or_else(|| job.as_ref().map(|job| job.file.store.path.clone())),
        job,
        runtime,
        limit: Duration::from_secs_f64(arguments.within),
    }
}

/// Runs all checks at the same time and takes what they say until they end or time is up.
fn look(subject: Subject) -> Vec<Finding> {
    let (started, limit) = (Instant::now(), subject.limit);
    let subject = Arc::new(subject);
    let (say, heard) = channel();
    for (number, check) in CHECKS.iter().enumerate() {
        let (subject, mut report) = (Arc::clone(&subject), Report::new(number, say.clone()));
        // A thread that cannot be started says nothing, and that is found out below.
        let _ = std::thread::Builder::new().name(check.name.into()).spawn(move || {
            (check.look)(&subject, &mut report);
            report.end();
        });
    }
    drop(say);
    let mut findings: Vec<Vec<Finding>> = CHECKS.iter().map(|_| Vec::new()).collect();
    let mut ended = [false; CHECKS.len()];
    while !ended.iter().all(|ended| *ended) {
        match heard.recv_timeout(limit.saturating_sub(started.elapsed())) {
            Ok((number, Said::Finding(finding))) => findings[number].push(finding),
            Ok((number, Said::End)) => ended[number] = true,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    for (number, check) in CHECKS.iter().enumerate().filter(|(number, _)| !ended[*number]) {
        let (status, fix) = check.late;
        let text = format!("no answer within {:.1} s", limit.as_secs_f64());
        findings[number].push(Finding { status, name: check.name, text, fix: Some(fix.into()) });
    }
    findings.into_iter().flatten().collect()
}
