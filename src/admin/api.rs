//! The routes of the admin API and what they read and answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Control;
use crate::engine::{Arming, Tally};
use crate::measure::record::Replayed;
use crate::units::{Percent, Ramp, Span};

/// What `POST /v1/faults/NAME/arm` takes; every part is optional.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmRequest {
    /// In place of the fault's own percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// When it ends by itself.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lease: Option<Span>,
    /// Who armed it, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What `GET /v1/status` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub name: String,
    pub version: String,
    pub uptime_s: f64,
    pub dependencies: Vec<DependencyStatus>,
    /// The folder with the files that make apps trust our certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<std::path::PathBuf>,
    /// Where the gateways are, by their names.
    #[serde(default)]
    pub gateways: BTreeMap<String, String>,
    pub faults: Vec<FaultStatus>,
    /// How much of an earlier run has been met again (`--replay`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replayed>,
    /// TLS handshakes with the app that failed although no fault touched them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_handshakes: Vec<HandshakeStatus>,
}

/// TLS handshakes that failed for one reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HandshakeStatus {
    pub dependency: String,
    /// `distrusted`: the app did not trust the certificate it was shown.
    pub reason: String,
    pub count: u64,
}

/// A dependency as the proxy serves it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DependencyStatus {
    pub name: String,
    pub kind: String,
    /// The URL that apps use.
    pub listen: String,
    pub upstream: String,
    /// The other hosts that mean it at a gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// A fault, armed or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FaultStatus {
    pub name: String,
    pub target: String,
    pub armed: bool,
    /// It is in the shadow: counted, never acting.
    #[serde(default)]
    pub shadow: bool,
    /// Seconds until it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_in_s: Option<f64>,
    pub tally: Tally,
}

/// All routes.
pub(super) fn router(control: Arc<Control>) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/faults", get(faults))
        .route("/v1/faults/{name}/arm", post(arm))
        .route("/v1/faults/{name}/disarm", post(disarm))
        .route("/v1/stop", post(stop))
        .route("/v1/heartbeat", post(heartbeat))
        .route("/v1/reload", post(reload))
        .fallback(async || problem(StatusCode::NOT_FOUND, "there is no such path; see `GET /`"))
        .layer(middleware::from_fn_with_state(Arc::clone(&control), hear))
        .layer(middleware::from_fn_with_state(Arc::clone(&control), may_steer))
        .layer(middleware::from_fn(same_site))
        .with_state(control)
}

/// Where callers can only look, nothing is armed or disarmed.
async fn may_steer(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    if !control.steering && request.method() != Method::GET {
        return problem(
            StatusCode::FORBIDDEN,
            "beyond loopback the admin API of a run only tells; steer it at a loopback address: `--admin 127.0.0.1:8474`",
        );
    }
    next.run(request).await
}

/// Every call to `/v1` is a sign of life of whoever steers.
async fn hear(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/v1/") {
        control.hear(request.uri().path().ends_with("/arm"));
    }
    next.run(request).await
}

async fn heartbeat() -> &'static str {
    "ok\n"
}

/// Keeps web pages out: a page in a browser on this machine must not be able to arm faults, by a
/// form or by a name that resolves to loopback.
async fn same_site(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        return problem(StatusCode::FORBIDDEN, "the admin API does not talk to web pages");
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_plain_host(host) {
        return problem(
            StatusCode::FORBIDDEN,
            "call the admin API by an IP address, `localhost` or a name without dots",
        );
    }
    next.run(request).await
}

/// An IP address, localhost, or a single-label name as containers have.
fn is_plain_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.parse::<std::net::IpAddr>().is_ok() || (!name.is_empty() && !name.contains('.'))
}

async fn front() -> &'static str {
    "brownout admin API\n\
     GET  /healthz  /readyz  /metrics  /v1/status  /v1/faults\n\
     POST /v1/faults/NAME/arm      {\"percent\": 20, \"for\": \"5m\"}  (both optional)\n\
     POST /v1/faults/NAME/disarm\n\
     POST /v1/stop                 disarms everything\n\
     POST /v1/reload               reads the file anew (serve)\n\
     POST /v1/heartbeat            says that whoever steers is still there (safety.heartbeat)\n"
}

async fn metrics(State(control): State<Arc<Control>>) -> Response {
    let content =
        (header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([content], control.metrics.encode(&control.engine)).into_response()
}

async fn status(State(control): State<Arc<Control>>) -> Json<Status> {
    let file = control.file.load();
    Json(Status {
        name: file.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: control.clock.now().as_secs_f64(),
        dependencies: file.dependencies.clone(),
        trust: file.trust.clone(),
        gateways: file.gateways.iter().cloned().collect(),
        faults: fault_list(&control),
        replay: control.engine.replayed(),
        failed_handshakes: handshake_list(&control),
    })
}

async fn faults(State(control): State<Arc<Control>>) -> Json<Vec<FaultStatus>> {
    Json(fault_list(&control))
}

fn handshake_list(control: &Control) -> Vec<HandshakeStatus> {
    let failed = control.metrics.failed_handshakes().into_iter();
    failed
        .map(|(dependency, reason, count)| HandshakeStatus {
            dependency: dependency.to_string(),
            reason: reason.to_owned(),
            count,
        })
        .collect()
}

fn fault_list(control: &Control) -> Vec<FaultStatus> {
    let now = control.clock.now();
    control.engine.expire(now);
    let armed = control.engine.armed();
    control
        .engine
        .tallies()
        .into_iter()
        .zip(control.engine.rules())
        .map(|((name, tally), rule)| {
            let arming = armed.iter().find(|(other, _)| *other == name).map(|(_, arming)| arming);
            FaultStatus {
                target: rule.target_text.clone(),
                shadow: rule.shadow,
                armed: arming.is_some(),
                ends_in_s: arming
                    .and_then(|arming| arming.until)
                    .map(|until| until.saturating_sub(now).as_secs_f64()),
                name: name.to_string(),
                tally,
            }
        })
        .collect()
}

async fn arm(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    let request = match read_arm(&headers, &body) {
        Ok(request) => request,
        Err(reason) => return problem(StatusCode::BAD_REQUEST, &reason),
    };
    let now = control.clock.now();
    let longest = control.file.load().longest;
    let lease = request.lease.map(|lease| lease.0).or(control.lease).or(longest);
    if let (Some(longest), Some(lease)) = (longest, lease)
        && lease > longest
    {
        let reason = format!("`for` may be at most {} (safety.max_duration)", Span(longest));
        return problem(StatusCode::BAD_REQUEST, &reason);
    }
    let arming = Arming {
        percent: request.percent.map(|percent| Ramp { from: percent.0, to: percent.0 }),
        from: now,
        until: lease.map(|lease| now + lease),
    };
    match control.engine.arm(&name, arming) {
        Ok(()) => {
            tracing::info!(fault = name, by = request.by.as_deref(), "armed");
            Json(fault_list(&control).into_iter().find(|fault| fault.name == name)).into_response()
        }
        Err(reason) => problem(StatusCode::NOT_FOUND, &reason),
    }
}

fn read_arm(headers: &HeaderMap, body: &[u8]) -> Result<ArmRequest, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(ArmRequest::default());
    }
    let json = headers.get(header::CONTENT_TYPE).is_none_or(|kind| {
        kind.as_bytes().starts_with(b"application/json")
            || kind.as_bytes().starts_with(b"application/x-www-form")
    });
    if !json {
        return Err("send the body as application/json".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| {
        format!("the body is not {{\"percent\": 20, \"for\": \"5m\", \"by\": \"name\"}}: {error}")
    })
}

async fn disarm(State(control): State<Arc<Control>>, Path(name): Path<String>) -> Response {
    if !control.engine.tallies().iter().any(|(known, _)| **known == *name) {
        return problem(StatusCode::NOT_FOUND, &format!("there is no fault `{name}`"));
    }
    let was_armed = control.engine.disarm(&name);
    tracing::info!(fault = name, was_armed, "disarmed");
    Json(fault_list(&control).into_iter().find(|fault| fault.name == name)).into_response()
}

async fn stop(State(control): State<Arc<Control>>) -> Json<Vec<FaultStatus>> {
    control.engine.disarm_all();
    tracing::info!("everything disarmed");
    Json(fault_list(&control))
}

/// Reads the file anew; what has changed is told, or why everything stays as it was.
async fn reload(State(control): State<Arc<Control>>) -> Response {
    let nobody =
        || problem(StatusCode::CONFLICT, "only `brownout serve` reads its file anew while it runs");
    let (wish, answer) = oneshot::channel();
    let Some(reload) = control.reload.get() else { return nobody() };
    if reload.send(wish).await.is_err() {
        return nobody();
    }
    match answer.await {
        Ok(Ok(changed)) => Json(serde_json::json!({ "changed": changed })).into_response(),
        Ok(Err(refused)) => problem(StatusCode::UNPROCESSABLE_ENTITY, &refused),
        Err(_) => nobody(),
    }
}

fn problem(status: StatusCode, reason: &str) -> Response {
    (status, Json(serde_json::json!({ "error": reason }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_hosts_may_call() {
        for good in ["127.0.0.1:8474", "localhost:8474", "[::1]:8474", "brownout:8474", "localhost"]
        {
            assert!(is_plain_host(good), "{good}");
        }
        for bad in ["evil.example:8474", "rebind.attacker.test", ""] {
            assert!(!is_plain_host(bad), "{bad}");
        }
    }

    #[test]
    fn arm_bodies_name_the_right_form() {
        let headers = HeaderMap::new();
        assert!(read_arm(&headers, b"").unwrap().percent.is_none());
        let request = read_arm(&headers, br#"{"percent": 20, "for": "5m"}"#).unwrap();
        assert_eq!(request.lease.unwrap().0.as_secs(), 300);
        let reason = read_arm(&headers, br#"{"for": 5}"#).unwrap_err();
        assert!(reason.contains("5 what?"), "{reason}");
    }
}
