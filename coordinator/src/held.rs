//! A word of warning on every answer to a person while orders are held, as the Warning header is in
//! Kubernetes: whoever applies a manifest then must not wonder why nothing comes of it.

use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::Map;
use http::{HeaderValue, Request, Response};
use tower::{Layer, Service};

use crate::driver::Handle;

/// The response metadata that warnings come in.
pub(crate) const WARNING: &str = "everynode-warning";

const HELD: HeaderValue = HeaderValue::from_static(
    "orders are held since the store was restored, and nothing changes on any node: see everynode \
     cluster status",
);

/// Puts the warning on answers.
#[derive(Clone)]
pub(crate) struct HeldLayer {
    handle: Handle,
}

/// A service behind [`HeldLayer`].
#[derive(Clone)]
pub(crate) struct Held<S> {
    inner: S,
    handle: Handle,
}

impl HeldLayer {
    /// For the fleet behind `handle`.
    pub(crate) const fn new(handle: Handle) -> Self {
        Self { handle }
    }
}

impl<S> Layer<S> for HeldLayer {
    type Service = Held<S>;

    fn layer(&self, inner: S) -> Held<S> {
        Held { inner, handle: self.handle.clone() }
    }
}

/// What becomes of an answer on its way out.
type OnItsWay<R, E> = fn(Result<Response<R>, E>) -> Result<Response<R>, E>;

impl<S, Q, R> Service<Request<Q>> for Held<S>
where
    S: Service<Request<Q>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Map<S::Future, OnItsWay<R, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let warns = self.handle.is_held() && is_for_people(request.uri().path());
        let on_its_way: OnItsWay<R, S::Error> = if warns { warned } else { std::convert::identity };
        self.inner.call(request).map(on_its_way)
    }
}

fn warned<R, E>(mut answer: Result<Response<R>, E>) -> Result<Response<R>, E> {
    if let Ok(response) = &mut answer {
        response.headers_mut().insert(WARNING, HELD);
    }
    answer
}

/// Agents have no use for it, and who asks about the hold or ends it knows of it.
fn is_for_people(path: &str) -> bool {
    let ours = path.strip_prefix("/everynode.v1.");
    let other = |path: &str| {
        path.starts_with("Agent/") || ["Cluster/Status", "Cluster/Resume"].contains(&path)
    };
    ours.is_some_and(|path| !other(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_people_are_warned() {
        for path in [
            "/everynode.v1.DaemonSets/Apply",
            "/everynode.v1.Nodes/List",
            "/everynode.v1.Cluster/Why",
        ] {
            assert!(is_for_people(path), "{path}");
        }
        for path in [
            "/everynode.v1.Agent/Session",
            "/everynode.v1.Cluster/Status",
            "/grpc.health.v1.Health/Check",
            "/",
        ] {
            assert!(!is_for_people(path), "{path}");
        }
    }
}
