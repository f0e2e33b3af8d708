//! The driver's side of a cluster. In: a scheduler's address, tasks. Out: their outcomes. It must not wait for ever: a scheduler or executors
//! that stay away end the run with exit code 2, and nothing is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ballista_core::client::BallistaClient;
use ballista_core::extension::{BallistaConfigGrpcEndpoint, SessionConfigExt as _};
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelJobParams, ExecuteQueryParams, GetJobStatusParams, KeyValuePair, PartitionLocation, SuccessfulJob,
    execute_query_params, execute_query_result, job_status,
};
use ballista_core::version::insert_version_header;
use datafusion::prelude::SessionConfig;
use datafusion_proto::physical_plan::AsExecutionPlan as _;
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::TryStreamExt;
use prost::Message as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::cluster::address::ClusterAddress;
use crate::cluster::codec::ChunkCodec;
use crate::cluster::exchange::{ChunkOutcome, Task};
use crate::cluster::program::{MESSAGE_BYTES, named, program};
use crate::cluster::standalone;
use crate::error::{Cause, Error, Result};

/// How long a scheduler may not answer, and how long a job may wait while no executor is registered.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a scheduler that has started again may not know a job.
const FORGOTTEN: Duration = Duration::from_secs(5);
/// How often a task is sent to a scheduler that loses it, or whose results cannot be fetched.
const SUBMISSIONS: usize = 4;
/// Between two looks at a job: a fortieth of its time so far, within these bounds. Hundreds of jobs are looked at, and those queued behind it
/// keep the executors at work meanwhile.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A connection to a scheduler.
pub struct Cluster {
    scheduler: SchedulerGrpcClient<Channel>,
    address: ClusterAddress,
    /// The scheduler's URL, and what asks for its pages.
    url: String,
    pages: reqwest::Client,
    codec: ChunkCodec,
    settings: Vec<KeyValuePair>,
    session: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Cluster({})", self.address)
    }
}

/// Why an attempt at a task gave no outcome.
enum Missed {
    /// It can be sent again.
    Lost(String),
    /// It cannot.
    Failed(Error),
}

impl Cluster {
    /// Connects to a cluster; a standalone one is started first, with `slots` tasks at a time.
    ///
    /// # Errors
    /// [`Error::Engine`] if the scheduler does not answer within a minute, [`Error::Setting`] if it runs another program.
    pub async fn connect(address: &ClusterAddress, slots: usize) -> Result<Self> {
        let url = match address {
            ClusterAddress::Standalone => standalone::start(slots).await?,
            ClusterAddress::Scheduler { host, port } => format!("http://{host}:{port}"),
        };
        let failed = |source: Cause| Error::Engine { doing: format!("reach the scheduler at `{address}`"), source };
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|cause| failed(cause.into()))?;
        let endpoint = endpoint.user_agent(program()).map_err(|cause| failed(cause.into()))?;
        let endpoint = endpoint.connect_timeout(Duration::from_secs(5));
        let started = Instant::now();
        let channel = loop {
            match endpoint.connect().await {
                Ok(channel) => break channel,
                Err(cause) if started.elapsed() > PATIENCE => return Err(failed(cause.into())),
                Err(cause) => {
                    tracing::debug!(%cause, "the scheduler at `{address}` does not answer yet");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        let config = SessionConfig::new_with_ballista();
        let entries = config.options().entries().into_iter();
        let settings = entries.map(|entry| KeyValuePair { key: entry.key, value: entry.value }).collect();
        let scheduler = SchedulerGrpcClient::new(channel)
            .max_encoding_message_size(MESSAGE_BYTES)
            .max_decoding_message_size(MESSAGE_BYTES);
        let cluster = Self {
            scheduler,
            address: address.clone(),
            url,
            // It is no server of the web, which a proxy might stand before.
            pages: reqwest::Client::builder().no_proxy().build().map_err(|cause| failed(cause.into()))?,
            codec: ChunkCodec::new(Arc::default()),
            settings,
            session: uuid::Uuid::now_v7().to_string(),
        };
        greet(&mut cluster.scheduler.clone(), &address.to_string()).await?;
        Ok(cluster)
    }

    /// How many tasks the executors that are registered now run at a time.
    pub async fn slots(&self) -> Option<usize> {
        let text = self.pages.get(format!("{}/executors", self.url)).send().await.ok()?.text().await.ok()?;
        let executors: Vec<serde_json::Value> = serde_json::from_str(&text).ok()?;
        Some(executors.iter().filter_map(|one| one.get("slots")?.as_u64()).sum::<u64>() as usize)
    }

    /// Runs a task on an executor and waits for its outcome. If it is dropped, the job is cancelled.
    ///
    /// # Errors
    /// [`Error::Engine`] if the task was lost several times, failed on every executor, or nobody took it.
    pub async fn run(&self, task: Task) -> Result<ChunkOutcome> {
        let name = task.name.clone();
        let plan = self.codec.operator(task);
        let plan = PhysicalPlanNode::try_from_physical_plan(plan, &self.codec);
        let plan = plan.map_err(|cause| self.failed(&name, cause))?.encode_to_vec();
        let mut reasons = Vec::new();
        for _ in 0..SUBMISSIONS {
            match self.attempt(&name, plan.clone()).await {
                Ok(outcome) => return Ok(outcome),
                Err(Missed::Failed(error)) => return Err(error),
                Err(Missed::Lost(reason)) => {
                    tracing::warn!("{name} is sent again: {reason}");
                    reasons.push(reason);
                }
            }
        }
        Err(self.failed(&name, reasons.pop().unwrap_or_default()))
    }

    async fn attempt(&self, name: &str, plan: Vec<u8>) -> Result<ChunkOutcome, Missed> {
        let scheduler = &self.scheduler;
        let mut request = Request::new(ExecuteQueryParams {
            query: Some(execute_query_params::Query::PhysicalPlan(plan)),
            session_id: self.session.clone(),
            operation_id: uuid::Uuid::now_v7().to_string(),
            settings: self.settings.clone(),
        });
        insert_version_header(request.metadata_mut());
        let asked = self.patiently(|| {
            let mut again = Request::new(request.get_ref().clone());
            *again.metadata_mut() = request.metadata().clone();
            let mut scheduler = scheduler.clone();
            async move { scheduler.execute_query(again).await }
        });
        let job = match asked.await.map_err(|cause| Missed::Failed(self.failed(name, cause)))?.into_inner().result {
            Some(execute_query_result::Result::Success(success)) => success.job_id,
            other => return Err(Missed::Failed(self.failed(name, format!("the scheduler refused it: {other:?}")))),
        };
        let mut waiting = Job { id: Some(job.clone()), scheduler: scheduler.clone() };
        let (sent, mut unknown, mut alone, mut looked) = (Instant::now(), None, None, Instant::now());
        loop {
            tokio::time::sleep((sent.elapsed() / 40).clamp(LOOKS.0, LOOKS.1)).await;
            let params = GetJobStatusParams { job_id: job.clone() };
            let status = self.patiently(|| {
                let (mut scheduler, params) = (scheduler.clone(), params.clone());
                async move { scheduler.get_job_status(params).await }
            });
            let status = status.await.map_err(|cause| Missed::Failed(self.failed(name, cause)))?.into_inner();
            match status.status.and_then(|status| status.status) {
                None => {
                    let since = *unknown.get_or_insert_with(Instant::now);
                    if since.elapsed() > FORGOTTEN {
                        return Err(Missed::Lost("the scheduler has forgotten it, as after a restart".to_owned()));
                    }
                }
                // Errors of our own are in the outcome: what fails is Ballista, such as on a full disk.
                Some(job_status::Status::Failed(failed)) => {
                    waiting.id = None;
                    return Err(Missed::Lost(failed.error));
                }
                Some(job_status::Status::Successful(job)) => {
                    waiting.id = None;
                    return self.fetch(job).await.map_err(|reason| {
                        Missed::Lost(format!("its result cannot be fetched from the executor: {reason}"))
                    });
                }
                Some(job_status::Status::Queued(_) | job_status::Status::Running(_)) => unknown = None,
            }
            if looked.elapsed() > Duration::from_secs(2) {
                looked = Instant::now();
                if self.slots().await == Some(0) {
                    let since = *alone.get_or_insert_with(|| {
                        tracing::warn!("no executor is registered at `{}`; waiting for one", self.address);
                        Instant::now()
                    });
                    if since.elapsed() > PATIENCE {
                        return Err(Missed::Failed(self.failed(name, "no executor is registered".to_owned())));
                    }
                } else {
                    alone = None;
                }
            }
        }
    }

    /// Asks until the scheduler answers, for at most [`PATIENCE`].
    async fn patiently<Answer, Asked>(&self, ask: impl Fn() -> Asked) -> Result<Answer, Cause>
    where
        Asked: Future<Output = Result<Answer, Status>>,
    {
        let started = Instant::now();
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(status) if is_away(&status) && started.elapsed() < PATIENCE => {
                    tracing::debug!(%status, "the scheduler does not answer");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(status) if is_away(&status) => {
                    return Err(format!("the scheduler has not answered for {} s: {status}", PATIENCE.as_secs()).into());
                }
                Err(status) => return Err(status.message().to_owned().into()),
            }
        }
    }

    /// The one row of a finished job.
    async fn fetch(&self, job: SuccessfulJob) -> Result<ChunkOutcome, String> {
        let said = |cause: &dyn std::fmt::Display| cause.to_string();
        let mut outcome = None;
        for location in job.partition_location {
            let layout = location.layout();
            let PartitionLocation { executor_meta, partition_id, file_id, .. } = location;
            let (Some(executor), Some(partition)) = (executor_meta, partition_id) else { continue };
            let (host, port) = (executor.host.as_str(), executor.port as u16);
            let endpoint = Some(Arc::new(BallistaConfigGrpcEndpoint::new(named())));
            let client = BallistaClient::try_new(host, port, MESSAGE_BYTES, false, endpoint, 3, 500, 0, 0).await;
            let mut client = client.map_err(|cause| said(&cause))?;
            let id = partition.into();
            let rows = client.fetch_partition_proxied(&executor.id, &id, file_id, layout, host, port, true).await;
            let rows: Vec<_> = rows.map_err(|cause| said(&cause))?.try_collect().await.map_err(|cause| said(&cause))?;
            for batch in rows.iter().filter(|batch| batch.num_rows() > 0) {
                outcome = Some(ChunkOutcome::read(batch).map_err(|cause| said(&cause))?);
            }
        }
        outcome.ok_or_else(|| "it is empty".to_owned())
    }

    fn failed(&self, name: &str, source: impl Into<Cause>) -> Error {
        Error::Engine { doing: format!("extract {name} on the cluster `{}`", self.address), source: source.into() }
    }
}

/// Whether a scheduler is not there, or starts again.
fn is_away(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded)
}

/// Asks a scheduler for the state of no job, to see whether it accepts this program.
///
/// # Errors
/// [`Error::Setting`] with its sentence if it does not, [`Error::Engine`] if it does not answer.
pub(crate) async fn greet(scheduler: &mut SchedulerGrpcClient<Channel>, address: &str) -> Result<()> {
    match scheduler.get_job_status(GetJobStatusParams { job_id: "none".to_owned() }).await {
        Err(status) if status.code() == Code::FailedPrecondition => Err(Error::Setting {
            origin: "cluster".into(),
            key: address.to_owned(),
            reason: status.message().to_owned(),
            hint: format!("this program is {}", program()),
        }),
        Err(status) if is_away(&status) => {
            Err(Error::Engine { doing: format!("reach the scheduler at `{address}`"), source: status.into() })
        }
        _ => Ok(()),
    }
}

/// A job that is cancelled if nobody waits for it any more.
struct Job {
    /// None once it is done.
    id: Option<String>,
    scheduler: SchedulerGrpcClient<Channel>,
}

impl Drop for Job {
    fn drop(&mut self) {
        let mut scheduler = self.scheduler.clone();
        if let (Some(job_id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { scheduler.cancel_job(CancelJobParams { job_id }).await.is_ok() });
        }
    }
}
