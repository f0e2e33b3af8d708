//! What the processes of a cluster agree on. In: the program that a peer says it is. Out: whether it may take part, or the sentence that refuses
//! it. It must not guess: a peer that does not say it is refused.
//!
//! Every connection of a driver or an executor names its program in gRPC's `user-agent`. A scheduler answers only its own version and
//! form of plans, because a plan that an executor cannot decode would end executor after executor.

use std::sync::Arc;

use ballista_core::extension::EndpointOverrideFn;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

/// The form of plans and outcomes: changes when a driver and an executor of the same version would no longer understand each other.
const FORM: u32 = 1;

/// The largest message between the processes of a cluster: what a chunk's documents are known by takes 60 bytes each.
pub const MESSAGE_BYTES: usize = 256 << 20;

/// This program, as it names itself: `quarry/VERSION+FORM`.
pub fn program() -> String {
    format!("quarry/{}+{FORM}", env!("CARGO_PKG_VERSION"))
}

/// What names this program in every connection that Ballista makes.
pub(crate) fn named() -> EndpointOverrideFn {
    Arc::new(|endpoint| Ok(endpoint.user_agent(program())?))
}

/// Refuses requests of another program: an interceptor of the scheduler's service.
#[allow(clippy::result_large_err, reason = "the type of tonic's interceptors")]
pub(crate) fn check(request: Request<()>) -> Result<Request<()>, Status> {
    match refusal(request.metadata()) {
        Some(sentence) => Err(Status::failed_precondition(sentence)),
        None => Ok(request),
    }
}

fn refusal(metadata: &MetadataMap) -> Option<String> {
    let agent = metadata.get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    // gRPC's library adds its own name behind a space.
    let peer = agent.split(' ').next().unwrap_or_default();
    let peer = if peer.starts_with("quarry/") { peer } else { "another program" };
    (peer != program()).then(|| {
        format!("this scheduler is {}, and the peer is {peer}: run the same version of quarry everywhere", program())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_program_is_let_in() {
        let peer = |agent: &str| {
            let mut request = Request::new(());
            request.metadata_mut().insert("user-agent", agent.parse().unwrap());
            check(request).map_err(|status| status.message().to_owned())
        };
        assert!(peer(&format!("{} tonic/0.14.2", program())).is_ok());
        let refused = peer("quarry/0.0.1+1 tonic/0.14.2").unwrap_err();
        assert!(refused.contains("the peer is quarry/0.0.1+1: run the same version"), "{refused}");
        for other in ["tonic/0.14.2", "", &format!("{}0 tonic/0.14.2", program())] {
            assert!(peer(other).is_err(), "{other}");
        }
        assert!(check(Request::new(())).unwrap_err().message().contains("the peer is another program"));
    }
}
