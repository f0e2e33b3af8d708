//! `quarry scheduler`: Ballista's scheduler with our plans. In: a port, Ballista's own options. Out: a service until a signal ends it. It
//! must not run a task.
//!
//! On the same port: gRPC for drivers and executors of the same program, and over HTTP `/healthz` (the process lives), `/readyz` (an executor is
//! registered), `/executors` (JSON) and `/metrics` (Prometheus).

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::{Config, SchedulerConfig};
use ballista_scheduler::scheduler_process::create_scheduler;
use ballista_scheduler::scheduler_server::SchedulerServer;
use clap::{CommandFactory as _, FromArgMatches as _};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use serde_json::json;
use tokio::net::TcpListener;
use tonic::service::RoutesBuilder;
use tonic::service::interceptor::InterceptedService;

use crate::cluster::codec::ChunkCodec;
use crate::cluster::program;
use crate::cluster::program::MESSAGE_BYTES;
use crate::cluster::service::{options, signal};
use crate::cluster::worker::gauge;
use crate::error::{Cause, Error, Result};

/// Our values of Ballista's options. Executors ask for tasks, so that only they must reach the scheduler. A lost executor is noticed within half a minute: one that works reports every five seconds.
const OPTIONS: [(&str, &str); 6] = [
    ("--scheduler-policy", "pull-staged"),
    ("--executor-timeout-seconds", "30"),
    ("--expire-dead-executor-interval-seconds", "5"),
    ("--no-executors-grace-period-seconds", "60"),
    ("--finished-job-data-clean-up-interval-seconds", "60"),
    ("--finished-job-state-clean-up-interval-seconds", "120"),
];

/// The settings of the command.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Options of Ballista's scheduler, as its own program takes them.
    pub options: Vec<String>,
}

type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// Runs a scheduler until SIGTERM or Ctrl-C.
///
/// # Errors
/// [`Error::Setting`] for an option that Ballista does not know, [`Error::Engine`] if the port cannot be used.
pub async fn command(settings: &Settings) -> Result<u8> {
    let bytes = MESSAGE_BYTES.to_string();
    let sizes = [
        "--grpc-server-max-decoding-message-size",
        "--grpc-server-max-encoding-message-size",
        "--grpc-client-max-message-size",
    ];
    let ours = OPTIONS.into_iter().chain(sizes.map(|option| (option, bytes.as_str())));
    let options: Config = options("scheduler", ours, &settings.options, Config::command(), Config::from_arg_matches)?;
    let address = format!("{}:{}", options.bind_host, options.bind_port);
    let config = SchedulerConfig::try_from(options).map_err(|cause| failed("read the options of", cause.into()))?;
    let listener = TcpListener::bind(&address).await.map_err(|cause| Error::Setting {
        origin: "scheduler".into(),
        key: "--bind-port".into(),
        reason: format!("`{address}` cannot be used: {cause}"),
        hint: "name a free port, or stop what listens there".into(),
    })?;
    tracing::info!("the scheduler {} listens on {address}", program::program());
    let server = serve(listener, config).await?;
    tokio::select! {
        ended = server => ended.map_err(|panic| failed("run", panic.into()))?.map_err(|cause| failed("run", cause.into()))?,
        signal = signal() => tracing::info!("stopped by {signal}"),
    }
    Ok(0)
}

/// Serves on a listener.
pub(crate) async fn serve(
    listener: TcpListener,
    config: SchedulerConfig,
) -> Result<tokio::task::JoinHandle<std::io::Result<()>>> {
    let codec = Arc::new(ChunkCodec::new(Arc::default()));
    let config = SchedulerConfig { override_physical_codec: Some(codec), ..config };
    let started = async {
        config.validate()?;
        let cluster = BallistaCluster::new_from_config(&config).await?;
        create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, Arc::new(config)).await
    };
    let scheduler: Server = started.await.map_err(|cause| failed("start", cause.into()))?;
    let service = SchedulerGrpcServer::new(scheduler.clone())
        .max_encoding_message_size(MESSAGE_BYTES)
        .max_decoding_message_size(MESSAGE_BYTES);
    let mut routes = RoutesBuilder::default();
    routes.add_service(InterceptedService::new(service, program::check));
    let pages = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/executors", get(executors))
        .route("/metrics", get(metrics))
        .with_state(scheduler);
    let routes = routes.routes().into_axum_router().merge(pages);
    let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
    Ok(tokio::spawn(async move { axum::serve(listener, routes).await }))
}

async fn readyz(State(scheduler): State<Server>) -> (StatusCode, String) {
    match registered(&scheduler).await.len() {
        0 => (StatusCode::SERVICE_UNAVAILABLE, "no executor is registered\n".to_owned()),
        count => (StatusCode::OK, format!("{count} executor(s) registered\n")),
    }
}

/// The executors as JSON: what `Cluster::slots` of the driver reads.
async fn executors(State(scheduler): State<Server>) -> String {
    serde_json::Value::Array(registered(&scheduler).await).to_string()
}

async fn metrics(State(scheduler): State<Server>) -> String {
    let executors = registered(&scheduler).await;
    let slots: u64 = executors.iter().filter_map(|one| one.get("slots")?.as_u64()).sum();
    gauge("scheduler_executors", "Executors that are registered.", executors.len() as f64)
        + &gauge("scheduler_slots", "Chunks that they run at a time.", slots as f64)
}

async fn registered(scheduler: &Server) -> Vec<serde_json::Value> {
    let executors = scheduler.state.executor_manager.get_executors_state().await.unwrap_or_default();
    let shown = executors.into_iter().map(|(executor, ..)| {
        json!({ "id": executor.id, "host": executor.host, "port": executor.port, "slots": executor.specification.vcores })
    });
    shown.collect()
}

fn failed(doing: &str, source: Cause) -> Error {
    Error::Engine { doing: format!("{doing} the scheduler"), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_ballista_override_ours() {
        let read = |users: &[&str]| -> Result<Config> {
            let users: Vec<String> = users.iter().map(|one| (*one).to_owned()).collect();
            options("scheduler", OPTIONS, &users, Config::command(), Config::from_arg_matches)
        };
        assert_eq!(read(&[]).unwrap().executor_timeout_seconds, 30);
        let own = read(&["--executor-timeout-seconds", "7", "--bind-port", "1"]).unwrap();
        assert_eq!((own.executor_timeout_seconds, own.bind_port), (7, 1));
        let error = read(&["--no-such-option"]).unwrap_err().to_string();
        assert!(error.contains("--no-such-option"), "{error}");
    }
}
