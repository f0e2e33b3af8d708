//! `quarry executor`: Ballista's executor with our operators. In: a scheduler's address, a device. Out: a service until a signal ends it,
//! after the tasks that it has. It must not start for a scheduler of another program.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_executor::config::Config;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_executor::health::spawn_health_server;
use clap::{CommandFactory as _, FromArgMatches as _};
use tokio::net::TcpListener;
use tonic::transport::Endpoint;

use crate::cluster::address::ClusterAddress;
use crate::cluster::codec::ChunkCodec;
use crate::cluster::driver::greet;
use crate::cluster::program::{MESSAGE_BYTES, named, program};
use crate::cluster::service::options;
use crate::cluster::worker::Worker;
use crate::error::{Cause, Error, Result};
use crate::machine::environment::use_cache;
use crate::model::runtime::device::DeviceChoice;

/// How long an executor waits for its scheduler.
const PATIENCE: Duration = Duration::from_mins(1);

/// The settings of the command.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The scheduler's address.
    pub scheduler: String,
    /// The device of the models, if not that of each job.
    pub device: Option<DeviceChoice>,
    /// How many chunks run at a time. They share the model.
    pub slots: usize,
    /// The folder for fetched models and libraries, if not that of the environment.
    pub cache: Option<PathBuf>,
    /// Where `/metrics` is served, as `HOST:PORT`.
    pub metrics: Option<String>,
    /// Options of Ballista's executor, as its own program takes them.
    pub options: Vec<String>,
}

/// Runs an executor until SIGTERM or Ctrl-C.
///
/// # Errors
/// [`Error::Setting`] for an option that Ballista does not know, or a scheduler of another program; [`Error::Engine`] if the scheduler does not
/// answer within a minute, or a port cannot be used; [`Error::Write`] if the disk has no room for what the driver fetches.
pub async fn command(settings: &Settings) -> Result<u8> {
    let (host, port) = match settings.scheduler.parse() {
        Ok(ClusterAddress::Scheduler { host, port }) => (host, port),
        other => {
            let reason = other.map_or_else(|reason| reason, |_| "an executor joins a scheduler".to_owned());
            let hint = "name it, such as df://127.0.0.1:50050".into();
            return Err(Error::Setting { origin: "quarry executor".into(), key: "scheduler".into(), reason, hint });
        }
    };
    if let Some(cache) = &settings.cache {
        use_cache(cache.clone());
    }
    let (slots, bytes, port) = (settings.slots.to_string(), MESSAGE_BYTES.to_string(), port.to_string());
    let ours = [
        ("--scheduler-host", host.as_str()),
        ("--scheduler-port", port.as_str()),
        ("--vcores", slots.as_str()),
        ("--task-scheduling-policy", "pull-staged"),
        ("--scheduler-connect-timeout-seconds", "60"),
        ("--grpc-server-max-decoding-message-size", bytes.as_str()),
        ("--grpc-server-max-encoding-message-size", bytes.as_str()),
        // What a job leaves is a row of JSON, fetched at once.
        ("--job-data-clean-up-interval-seconds", "600"),
        ("--job-data-ttl-seconds", "3600"),
    ];
    let options: Config = options("executor", ours, &settings.options, Config::command(), Config::from_arg_matches)?;
    let health = format!("{}:{}", options.bind_host, options.bind_health_port);
    let mut config =
        ExecutorProcessConfig::try_from(options).map_err(|cause| failed("read the options of", cause.into()))?;
    // The folder of a job's results. Ballista removes a temporary one of its own before it uses it.
    let folder = tempfile::tempdir().map_err(|cause| failed("make a folder for", cause.into()))?;
    let folder = config.work_dir.get_or_insert_with(|| folder.path().display().to_string()).clone();
    wait_for_scheduler(&host, &port).await?;
    let name = format!("{}:{}", config.external_host.as_deref().unwrap_or(&config.bind_host), config.port);
    let worker = Arc::new(Worker::of_executor(name.clone(), settings.device.clone(), folder.into()));
    if let Some(address) = &settings.metrics {
        serve_metrics(address, Arc::clone(&worker)).await?;
    }
    config.override_physical_codec = Some(Arc::new(ChunkCodec::new(Arc::clone(&worker))));
    config.override_create_grpc_client_endpoint = Some(named());
    let (ends, ended) = tokio::sync::oneshot::channel();
    match health.parse() {
        Ok(address) => drop(spawn_health_server(address, config.health.clone(), ended)),
        Err(cause) => tracing::warn!("no health service on `{health}`: {cause}"),
    }
    tracing::info!("the executor {} at {name} works for {}", program(), settings.scheduler);
    let result = start_executor_process(Arc::new(config)).await;
    // Nobody waits for it any more if the health service could not start.
    let _ = ends.send(());
    result.map_err(|cause| failed("run", cause.into()))?;
    worker.no_room().map_or(Ok(0), Err)
}

/// Runs the task on standard input in this process, and prints its outcome as JSON.
///
/// # Errors
/// [`Error::Engine`] if it is no task, or the task may succeed elsewhere or later.
pub async fn one_chunk(name: &str, device: Option<DeviceChoice>) -> Result<String> {
    let task = std::io::read_to_string(std::io::stdin()).map_err(|cause| failed("read a chunk for", cause.into()))?;
    let task = serde_json::from_str(&task).map_err(|cause| failed("read a chunk for", cause.into()))?;
    let outcome = Worker::new(name.to_owned(), device).run(&task).await;
    let outcome = outcome.map_err(|cause| failed("extract a chunk in", cause.into()))?;
    serde_json::to_string(&outcome).map_err(|cause| failed("report a chunk of", cause.into()))
}

/// Serves what the executor has done, as long as the process lives.
async fn serve_metrics(address: &str, worker: Arc<Worker>) -> Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|cause| Error::Setting {
        origin: "quarry executor".into(),
        key: "--metrics".into(),
        reason: format!("`{address}` cannot be used: {cause}"),
        hint: "name a free port, such as 0.0.0.0:50054".into(),
    })?;
    let page = Router::new().route("/metrics", get(async move || worker.metrics()));
    tokio::spawn(async move { axum::serve(listener, page).await });
    Ok(())
}

/// Waits until the scheduler answers, and ends with its sentence if it does not accept this program.
async fn wait_for_scheduler(host: &str, port: &str) -> Result<()> {
    let address = format!("{host}:{port}");
    let endpoint =
        Endpoint::from_shared(format!("http://{address}")).map_err(|cause| failed("connect", cause.into()))?;
    let endpoint = endpoint.user_agent(program()).map_err(|cause| failed("connect", cause.into()))?;
    let connected = async {
        loop {
            if let Ok(channel) = endpoint.connect().await {
                return channel;
            }
            tracing::info!("waiting for the scheduler at {address}");
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    let channel = tokio::time::timeout(PATIENCE, connected).await;
    let channel =
        channel.map_err(|_| failed("connect", format!("the scheduler at `{address}` does not answer").into()))?;
    greet(&mut SchedulerGrpcClient::new(channel), &address).await
}

fn failed(doing: &str, source: Cause) -> Error {
    Error::Engine { doing: format!("{doing} the executor"), source }
}
