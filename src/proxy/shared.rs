//! One listener for many dependencies: a request is told by its `Host`, else by its path's first
//! segments, which are taken off. What is for none of them is told what there is.

use std::fmt::Write as _;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{Request, StatusCode, Uri, header};
use tokio_util::sync::CancellationToken;

use super::connection::Dependency;
use super::reverse::told;
use super::route::{Directory, Host};
use crate::dialect::{Answer, speaks_http};

/// The shared gateway.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) directory: Arc<Directory>,
    /// Where it listens.
    pub(super) port: u16,
    /// Cancelled when it takes no more requests.
    pub(super) drain: CancellationToken,
}

impl Shared {
    /// The dependency of a request; its target becomes the path as the dependency knows it.
    pub(super) fn find<B>(&self, request: &mut Request<B>) -> Result<Arc<Dependency>, Answer> {
        let host = host_of(request)?;
        if let Some(dependency) = self.by_host(&host) {
            return Ok(dependency);
        }
        let all = self.directory.all();
        let path = request.uri().path();
        let fitting = all.iter().filter(|one| is_served(one) && is_below(path, &one.path));
        let Some(dependency) = fitting.max_by_key(|one| one.path.len()) else {
            return Err(unknown(&Host::of(&host), &all));
        };
        if let Some(target) = without_prefix(request.uri(), &dependency.path) {
            *request.uri_mut() = target;
        }
        Ok(Arc::clone(dependency))
    }

    /// A `Host` with our own port is as good as one without, where it is a name. An address without
    /// its upstream's port is our own.
    fn by_host(&self, host: &str) -> Option<Arc<Dependency>> {
        let read = Host::of(host);
        let ours = read.port.is_none_or(|port| port == self.port);
        let found = match ours {
            true if read.is_place() => None,
            true => self.directory.by_host(&read.name),
            false => self.directory.by_host(host),
        };
        found.filter(|dependency| is_served(dependency))
    }
}

/// The host that a request names: in its target, else in its `Host`; empty when in neither.
fn host_of<B>(request: &Request<B>) -> Result<String, Answer> {
    if let Some(authority) = request.uri().authority() {
        let host = authority.as_str();
        return Ok(host.rsplit('@').next().unwrap_or(host).to_owned());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    match hosts.next() {
        // Which of them is meant, nobody can know.
        Some(_) => Err(told(
            StatusCode::BAD_REQUEST,
            "brownout: the request has more than one `Host`\n".to_owned(),
        )),
        None => Ok(host.unwrap_or_default()),
    }
}

/// Whether it is served here at all.
fn is_served(dependency: &Dependency) -> bool {
    speaks_http(dependency.dialect)
}

/// Whether a path is a prefix or goes on below it.
fn is_below(path: &str, prefix: &str) -> bool {
    prefix == "/"
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The target without a prefix of its path; None when it stays as it is.
fn without_prefix(uri: &Uri, prefix: &str) -> Option<Uri> {
    if prefix == "/" {
        return None;
    }
    let rest = uri.path_and_query()?.as_str().strip_prefix(prefix)?;
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    PathAndQuery::try_from(rest).ok().map(Uri::from)
}

/// What an app is told whose request is for no dependency.
fn unknown(host: &Host, all: &[Arc<Dependency>]) -> Answer {
    // A name that is not ours: the request was meant for somebody else.
    let (status, why) = match host.name.is_empty() || host.is_place() {
        true => {
            (StatusCode::NOT_FOUND, "this path is below the prefix of no dependency".to_owned())
        }
        false => {
            let name: String = host.name.chars().filter(|c| !c.is_control()).take(80).collect();
            let why = format!(
                "no dependency has the host `{name}`, and the path is below the prefix of none"
            );
            (StatusCode::MISDIRECTED_REQUEST, why)
        }
    };
    let mut text = format!("brownout: {why}; there are:\n");
    for one in all.iter().filter(|one| is_served(one)) {
        let _ = write!(text, "  {:<16} {}", one.name, one.path);
        for host in one.own_host.iter().filter(|own| !own.is_place()).chain(&one.hosts) {
            let _ = write!(text, ", {}", host.name);
            if let Some(port) = host.port {
                let _ = write!(text, ":{port}");
            }
        }
        text.push('\n');
    }
    told(status, text)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proxy::connection::tests::dependency;

    /// Dependencies by name, upstream and further hosts.
    pub(in crate::proxy) fn directory(all: &[(&str, &str, &[&str])]) -> Directory {
        let directory = Directory::default();
        directory.replace(
            all.iter().map(|(name, to, hosts)| Arc::new(dependency(name, to, hosts))).collect(),
            Vec::new(),
        );
        directory
    }

    fn gateway() -> Shared {
        let all = directory(&[
            ("llm", "https://api.openai.com/base", &[]),
            ("llm2", "http://127.0.0.1:9001", &["*.azure.com"]),
            ("vectors", "http://127.0.0.1:9002", &[]),
        ]);
        let mut list: Vec<Arc<Dependency>> = all.all().to_vec();
        let deep =
            Dependency { path: "/llm/deep".to_owned(), ..dependency("deep", "http://d", &[]) };
        list.push(Arc::new(deep));
        all.replace(list, Vec::new());
        Shared { directory: Arc::new(all), port: 4000, drain: CancellationToken::new() }
    }

    fn route(host: Option<&str>, target: &str) -> Result<(String, String), (StatusCode, String)> {
        let mut request = Request::get(target);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let mut request = request.body(()).unwrap();
        match gateway().find(&mut request) {
            Ok(one) => {
                let uri = request.uri();
                Ok((one.name.to_string(), uri.path_and_query().unwrap().to_string()))
            }
            Err(answer) => Err((answer.status, String::from_utf8(answer.body.to_vec()).unwrap())),
        }
    }

    #[test]
    fn the_host_decides_before_the_path() {
        for (host, target, name, path) in [
            (Some("api.openai.com"), "/vectors/x", "llm", "/vectors/x"),
            (Some("api.openai.com:4000"), "/v1/x?y", "llm", "/v1/x?y"),
            (Some("eu.azure.com:4000"), "/v1", "llm2", "/v1"),
            (Some("127.0.0.1:9002"), "/llm/v1", "vectors", "/llm/v1"),
            (None, "http://api.openai.com/vectors", "llm", "/vectors"),
            (Some("127.0.0.1:4000"), "/llm/v1/chat?a=%20", "llm", "/v1/chat?a=%20"),
            (Some("localhost:4000"), "/llm", "llm", "/"),
            (Some("localhost"), "/llm?x=/llm", "llm", "/?x=/llm"),
            (Some("localhost"), "/llm/deep/er", "deep", "/er"),
            (Some("localhost"), "/llm/deeper", "llm", "/deeper"),
            (Some("localhost"), "/llm2//a%2Fb/../c", "llm2", "//a%2Fb/../c"),
            (Some("brownout:4000"), "/vectors/collections", "vectors", "/collections"),
            (None, "/vectors/", "vectors", "/"),
        ] {
            let found = route(host, target).unwrap_or_else(|(_, text)| panic!("{target}: {text}"));
            assert_eq!(found, (name.to_owned(), path.to_owned()), "{host:?} {target}");
        }
    }

    #[test]
    fn what_is_for_nobody_is_told_what_there_is() {
        let (status, text) = route(Some("127.0.0.1:4000"), "/llm3/v1").unwrap_err();
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(text.contains("llm              /llm, api.openai.com:443\n"), "{text}");
        assert!(text.contains("llm2             /llm2, *.azure.com\n"), "{text}");
        let (status, text) = route(Some("api.example.com"), "/v1").unwrap_err();
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST);
        assert!(text.contains("`api.example.com`"), "{text}");
        let mut twice =
            Request::get("/llm").header("host", "a").header("host", "b").body(()).unwrap();
        assert_eq!(gateway().find(&mut twice).unwrap_err().status, StatusCode::BAD_REQUEST);
        // A path that only looks like the prefix is not below it.
        for path in ["/LLM/v1", "/%6clm/v1", "//llm/v1", "/x/../llm", "*"] {
            assert!(route(Some("localhost"), path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_is_answered(host in ".{0,40}", path in "(/[a-z0-9%.~?&=-]{0,8}){0,5}") {
            let request = Request::get(if path.is_empty() { "/" } else { &path });
            if let Ok(mut request) = request.header("host", host.as_bytes()).body(()) {
                let before = request.uri().clone();
                match gateway().find(&mut request) {
                    Ok(one) => {
                        let after = request.uri().path_and_query().unwrap().as_str().to_owned();
                        prop_assert!(after.starts_with('/'));
                        let whole = before.path_and_query().unwrap().as_str();
                        let tail = after.trim_start_matches('/');
                        prop_assert!(whole.ends_with(tail), "{whole} {after} {}", one.name);
                    }
                    Err(answer) => prop_assert!(answer.status.is_client_error()),
                }
            }
        }
    }
}
