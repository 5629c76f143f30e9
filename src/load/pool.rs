//! Connections to the app, kept open between requests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Servers close idle connections after five seconds or more: ours go first.
const IDLE: Duration = Duration::from_secs(4);

#[derive(Clone, Debug)]
pub(crate) struct Pool {
    host: Arc<str>,
    port: u16,
    idle: Arc<Mutex<Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

#[derive(Debug)]
pub(crate) enum SendError {
    Connect(std::io::Error),
    Talk(hyper::Error),
}

impl Pool {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port, idle: Arc::default() }
    }

    pub(crate) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendError> {
        loop {
            let idle = self.take_idle();
            let reused = idle.is_some();
            let mut sender = match idle {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let pool = self.clone();
                    tokio::spawn(async move { pool.take_back(sender).await });
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    // Not a byte of it was sent: the connection had just been closed.
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(SendError::Talk(error.into_error())),
                },
            }
        }
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock();
        while let Some(Idle { sender, since }) = idle.pop() {
            if sender.is_ready() && since.elapsed() < IDLE {
                return Some(sender);
            }
        }
        None
    }

    async fn take_back(&self, mut sender: SendRequest<Full<Bytes>>) {
        if sender.ready().await.is_ok() {
            self.idle.lock().push(Idle { sender, since: Instant::now() });
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, SendError> {
        let stream =
            TcpStream::connect((&*self.host, self.port)).await.map_err(SendError::Connect)?;
        stream.set_nodelay(true).map_err(SendError::Connect)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(SendError::Talk)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}
