//! Waiting until an app answers.

use std::time::Duration;

use http::Uri;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A port that accepts connections.
    Port { host: String, port: u16 },
    /// A URL that answers with a status below 500.
    Url { host: String, port: u16, path: String },
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port { host, port } => write!(f, "{host}:{port}"),
            Self::Url { host, port, path } => write!(f, "http://{host}:{port}{path}"),
        }
    }
}

impl Target {
    /// Reads `http://host:port/path`, `host:port` or `:port`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is nothing to wait for; write http://host:port/path, host:port or :port"
            )
        };
        if let Some(rest) = text.strip_prefix("http://") {
            let uri: Uri = text.parse().map_err(|_| wrong())?;
            let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
            let path = if rest.contains('/') {
                uri.path_and_query().map_or("/", |path| path.as_str())
            } else {
                "/"
            };
            return Ok(Self::Url {
                host: host.trim_matches(['[', ']']).to_owned(),
                port: uri.port_u16().unwrap_or(80),
                path: path.to_owned(),
            });
        }
        if text.starts_with("https://") {
            return Err(format!(
                "`{text}`: only http is asked; write host:port to wait for a port"
            ));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        if host.contains('/') {
            return Err(wrong());
        }
        Ok(Self::Port { host: host.trim_matches(['[', ']']).to_owned(), port })
    }

    /// Waits until it answers; the error says what the last try saw.
    pub async fn wait(&self, limit: Duration) -> Result<(), String> {
        let mut last = String::from("nothing answered");
        let trying = async {
            loop {
                match tokio::time::timeout(Duration::from_secs(2), self.try_once()).await {
                    Ok(Ok(())) => return,
                    Ok(Err(reason)) => last = reason,
                    Err(_) => "no answer within 2 s".clone_into(&mut last),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        match tokio::time::timeout(limit, trying).await {
            Ok(()) => Ok(()),
            Err(_) => Err(last),
        }
    }

    /// Tries once; for a URL, gives the status in the error when it is 500 or above.
    pub async fn try_once(&self) -> Result<(), String> {
        match self {
            Self::Port { host, port } => {
                connect(host, *port).await?;
                Ok(())
            }
            Self::Url { host, port, path } => match get(host, *port, path).await? {
                status if status < 500 => Ok(()),
                status => Err(format!("it answered {status}")),
            },
        }
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| format!("{host}:{port}: {error}"))
}

/// The status of a GET over plain HTTP.
pub(crate) async fn get(host: &str, port: u16, path: &str) -> Result<u16, String> {
    let stream = connect(host, port).await?;
    let said = |error: hyper::Error| format!("{host}:{port}: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
    tokio::spawn(connection);
    let request = hyper::Request::get(path)
        .header("host", format!("{host}:{port}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    Ok(sender.send_request(request).await.map_err(said)?.status().as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let port = |host: &str, port| Ok(Target::Port { host: host.to_owned(), port });
        assert_eq!(Target::parse(":8000"), port("127.0.0.1", 8000));
        assert_eq!(Target::parse("app:8000"), port("app", 8000));
        let url = Target::Url { host: "app".into(), port: 8000, path: "/healthz".into() };
        assert_eq!(Target::parse("http://app:8000/healthz"), Ok(url));
        assert!(Target::parse("soon").unwrap_err().contains("host:port"));
        assert!(Target::parse("https://app/").unwrap_err().contains("only http"));
    }

    #[tokio::test]
    async fn what_never_answers_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let target = Target::parse(&format!(":{port}")).unwrap();
        let reason = target.wait(Duration::from_millis(300)).await.unwrap_err();
        assert!(reason.contains(&port.to_string()), "{reason}");
    }
}
