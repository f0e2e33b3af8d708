//! `quarry doctor`: checks the environment. In: a job, a store, a model, or nothing. Out: one line for each thing that a run needs, and
//! how to fix what is wrong, within three seconds. It must not write, and must not wait for a check that hangs.

mod gpu;
mod input;
mod machine;
mod model;
mod report;
mod runtime;
mod settings;
mod space;
mod store;
mod subject;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Instant;

use tokio::runtime::{Handle, Runtime};

use crate::console;
use crate::doctor::subject::Subject;
use crate::error::Result;
use crate::job::Job;
use crate::job::file::ModelSection;
use crate::model::runtime::device::DeviceChoice;
use crate::model::runtime::library;

use crate::doctor::report::{Finding, Message, Report, Status};

pub use crate::doctor::settings::Settings;

/// One check, and what is reported if it exceeds the time limit.
struct Check {
    name: &'static str,
    run: fn(&Subject, &mut Report),
    timeout: (Status, &'static str),
}

/// The checks, in the order of the report.
const CHECKS: [Check; 7] = [
    Check { name: "machine", run: machine::check, timeout: (Status::Warning, "check the load of this machine") },
    Check {
        name: "ONNX Runtime",
        run: runtime::check,
        timeout: (
            Status::Warning,
            "the first start can take longer: run the doctor again; if it is still slow, delete the library and fetch it again",
        ),
    },
    Check {
        name: "GPU",
        run: gpu::check,
        timeout: (Status::Warning, "check the driver: `nvidia-smi` should answer within a second"),
    },
    Check {
        name: "model",
        run: model::check,
        timeout: (
            Status::Warning,
            "large files on a slow disk take longer to hash: raise --within; a run checks them again",
        ),
    },
    Check {
        name: "input",
        run: input::check,
        timeout: (Status::Fix, "check the network, the endpoint and the credentials in the environment"),
    },
    Check {
        name: "store",
        run: store::check,
        timeout: (Status::Fix, "check the network, the endpoint and the credentials in the environment"),
    },
    Check {
        name: "disk",
        run: space::check,
        timeout: (Status::Warning, "a file system does not respond: check its mounts"),
    },
];

/// Runs all checks and prints the report; 1 if something must be fixed.
pub fn command(settings: &Settings, runtime: Runtime) -> Result<u8> {
    let mut findings = vec![report::program()];
    let subject = subject(settings, runtime.handle().clone(), &mut findings);
    if settings.fetch {
        library::locate(subject.library.as_deref(), subject.likely_distribution())?;
    }
    findings.extend(run_checks(subject));
    // Leak the runtime: dropping it would wait for checks that hang, and would fail those that still use it.
    std::mem::forget(runtime);
    let code = u8::from(findings.iter().any(|finding| finding.status == Status::Fix));
    if settings.json {
        console::print_json(&report::json(&findings, code)?);
    } else {
        console::print(&report::text(&findings));
    }
    Ok(code)
}

/// What the checks need; a job that cannot be read is the first finding.
fn subject(settings: &Settings, runtime: Handle, findings: &mut Vec<Finding>) -> Subject {
    let job = settings.job.as_deref().and_then(|path| match Job::read(path, &settings.set) {
        Ok(job) => {
            let types = job.extraction.schema.types.len();
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
        model: settings.model.clone().unwrap_or(written.path),
        library: written.library,
        device: job.as_ref().map_or(DeviceChoice::Auto, |job| job.runtime.device.clone()),
        store: settings.store.clone().or_else(|| job.as_ref().map(|job| job.file.store.path.clone())),
        job,
        runtime,
        limit: settings.limit,
    }
}

/// Runs all checks in parallel and collects their findings until they end or reach the time limit.
fn run_checks(subject: Subject) -> Vec<Finding> {
    let (started, limit) = (Instant::now(), subject.limit);
    let subject = Arc::new(subject);
    let (sender, messages) = channel();
    for (number, check) in CHECKS.iter().enumerate() {
        let (subject, mut report) = (Arc::clone(&subject), Report::new(number, sender.clone()));
        // A check whose thread cannot be started is reported below as one that exceeded the limit.
        let _ = std::thread::Builder::new().name(check.name.into()).spawn(move || {
            // Otherwise it would be reported as one that exceeded the limit.
            if catch_unwind(AssertUnwindSafe(|| (check.run)(&subject, &mut report))).is_err() {
                report.fix(check.name, "the check failed", "report it as a bug, with the message above");
            }
            report.end();
        });
    }
    drop(sender);
    let mut findings: Vec<Vec<Finding>> = CHECKS.iter().map(|_| Vec::new()).collect();
    let mut ended = [false; CHECKS.len()];
    while !ended.iter().all(|ended| *ended) {
        match messages.recv_timeout(limit.saturating_sub(started.elapsed())) {
            Ok((number, Message::Finding(finding))) => findings[number].push(finding),
            Ok((number, Message::End)) => ended[number] = true,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    for (number, check) in CHECKS.iter().enumerate().filter(|(number, _)| !ended[*number]) {
        let (status, fix) = check.timeout;
        let text = format!("no answer within {:.1} s", limit.as_secs_f64());
        findings[number].push(Finding { status, name: check.name, text, fix: Some(fix.into()) });
    }
    findings.into_iter().flatten().collect()
}
