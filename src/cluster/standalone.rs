//! A cluster in this process, for trials. In: how many tasks run at a time. Out: a scheduler's URL on the loopback interface. It must not
//! outlive the process.

use std::sync::Arc;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::extension::SessionConfigExt as _;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::{BallistaCodec, BallistaLogicalExtensionCodec};
use ballista_core::utils::default_session_builder;
use ballista_executor::new_standalone_executor_from_builder;
use ballista_scheduler::config::SchedulerConfig;
use datafusion::prelude::SessionConfig;
use tokio::net::TcpListener;
use tonic::transport::Endpoint;

use crate::cluster::codec::ChunkCodec;
use crate::cluster::program::{MESSAGE_BYTES, program};
use crate::cluster::scheduler::serve;
use crate::cluster::worker::Worker;
use crate::error::{Cause, Error, Result};

/// Starts a scheduler and an executor on free ports.
///
/// # Errors
/// [`Error::Engine`] if one does not start.
pub(crate) async fn start(slots: usize) -> Result<String> {
    let failed = |source: Cause| Error::Engine { doing: "start the standalone cluster".into(), source };
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|cause| failed(cause.into()))?;
    let port = listener.local_addr().map_err(|cause| failed(cause.into()))?.port();
    serve(listener, SchedulerConfig::default().with_scheduler_policy(TaskSchedulingPolicy::PullStaged)).await?;
    let url = format!("http://127.0.0.1:{port}");
    let endpoint = Endpoint::from_shared(url.clone()).map_err(|cause| failed(cause.into()))?;
    let endpoint = endpoint.user_agent(program()).map_err(|cause| failed(cause.into()))?;
    let channel = endpoint.connect().await.map_err(|cause| failed(cause.into()))?;
    let scheduler = SchedulerGrpcClient::new(channel)
        .max_encoding_message_size(MESSAGE_BYTES)
        .max_decoding_message_size(MESSAGE_BYTES);
    let codec = BallistaCodec::new(
        Arc::new(BallistaLogicalExtensionCodec::default()),
        Arc::new(ChunkCodec::new(Arc::new(Worker::new("standalone".to_owned(), None)))),
    );
    let config = SessionConfig::new_with_ballista().with_ballista_grpc_client_max_message_size(MESSAGE_BYTES);
    let state = default_session_builder(config.clone()).map_err(|cause| failed(cause.into()))?;
    let runtime = Arc::clone(state.runtime_env());
    let started = new_standalone_executor_from_builder(
        scheduler,
        slots,
        Arc::new(move || config.clone()),
        Arc::new(move |_| Ok(Arc::clone(&runtime))),
        codec,
        (&state).into(),
    );
    started.await.map_err(|cause| failed(cause.into()))?;
    Ok(url)
}
