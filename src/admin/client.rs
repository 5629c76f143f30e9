//! Calls the admin API of a running brownout.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls one path; the error says in words what went wrong.
pub async fn call(
    admin: SocketAddr,
    method: Method,
    path: &str,
    body: Option<String>,
) -> Result<(StatusCode, Bytes), String> {
    let admin = reachable(admin);
    tokio::time::timeout(PATIENCE, exchange(admin, method, path, body))
        .await
        .unwrap_or_else(|_| Err(format!("the admin API at {admin} did not answer within 5 s")))
}

/// `0.0.0.0` is where to listen, not where to call.
fn reachable(admin: SocketAddr) -> SocketAddr {
    match admin {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            SocketAddr::from(([127, 0, 0, 1], v4.port()))
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, v6.port()))
        }
        other => other,
    }
}

async fn exchange(
    admin: SocketAddr,
    method: Method,
    path: &str,
    body: Option<String>,
) -> Result<(StatusCode, Bytes), String> {
    let said = |error: &dyn std::fmt::Display| {
        format!(
            "no brownout answers at {admin} ({error}); start one with `brownout serve`, or name it with --admin"
        )
    };
    let stream = TcpStream::connect(admin).await.map_err(|error| said(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| said(&error))?;
    let connection = tokio::spawn(connection);
    let mut request =
        Request::builder().method(method).uri(path).header(header::HOST, admin.to_string());
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .map_err(|error| format!("`{path}` is no path: {error}"))?;
    let answer = sender.send_request(request).await.map_err(|error| said(&error))?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|error| said(&error))?.to_bytes();
    connection.abort();
    Ok((status, body))
}
