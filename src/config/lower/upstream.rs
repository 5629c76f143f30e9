//! A dependency's upstream: its URL by the forms that its kind knows, and TLS and HTTP on both sides.

use std::io::Read as _;
use std::path::PathBuf;

use super::{Lowering, Step, way};
use crate::config::diagnostic::Mistake;
use crate::config::plan::Upstream;
use crate::config::schema::{self, CertFiles, Simulate};
use crate::dialect::{self, Dialect, Scheme, speaks_http};
use crate::net::{KeyPair, UpstreamTls};
use crate::proxy::ListenTls;

/// Larger files hold no certificates.
const LARGEST_PEM: u64 = 1024 * 1024;

/// What a PEM file must hold.
const CERTIFICATE: &str = "CERTIFICATE-----";
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

impl Lowering<'_> {
    pub(super) fn upstream(
        &mut self,
        name: &str,
        kind: &str,
        upstream: Option<String>,
        simulate: Option<Simulate>,
    ) -> Option<Upstream> {
        let here = way!["dependencies", name];
        let simulate = match simulate {
            Some(Simulate::On(options)) => Some(options),
            Some(Simulate::Off) | None => None,
        };
        match (upstream, simulate) {
            (Some(_), Some(_)) => {
                let place = self.key_place(way!["dependencies", name, "simulate"]);
                self.found.error(
                    Mistake::at(place, format!("`{name}` has both `upstream` and `simulate`"))
                        .label("keep one of them"),
                );
                None
            }
            (None, None) => {
                let refused =
                    ["upstream", "simulate"].iter().any(|key| self.absence_is_told(here, key));
                if !refused {
                    let text = format!("`{name}` needs `upstream` or `simulate`");
                    self.found.error(Mistake::at(self.place(here), text).hint(
                        "write upstream: https://api.openai.com, or simulate: true for the \
                         embedded simulator",
                    ));
                }
                None
            }
            (Some(text), None) => {
                let dialect = dialect::by_kind(kind);
                match dialect.filter(|dialect| !speaks_http(*dialect)) {
                    Some(raw) => self.raw_upstream(name, raw, &text),
                    None => self.http_upstream(name, &text),
                }
                .map(Upstream::Url)
            }
            (None, Some(options)) => self.simulate(name, kind, &options).map(Upstream::Simulate),
        }
    }

    fn http_upstream(&mut self, name: &str, text: &str) -> Option<url::Url> {
        let path = way!["dependencies", name, "upstream"];
        let url = self.url(path, text, "https://api.openai.com")?;
        if url.query().is_some() || url.fragment().is_some() {
            self.error(path, "an `upstream` has no query and no fragment");
            return None;
        }
        if !url.username().is_empty() || url.password().is_some() {
            let mistake =
                Mistake::at(self.place(path), "an `upstream` has no user name and password");
            self.found.error(mistake.label("take them out: the app sends its own"));
            return None;
        }
        Some(url)
    }

    /// `host:port`, or a URL of one of the kind's schemes; it becomes `tcp://host:port`, or `tls:` where
    /// the upstream is spoken to over TLS.
    fn raw_upstream(
        &mut self,
        name: &str,
        dialect: &'static dyn Dialect,
        text: &str,
    ) -> Option<url::Url> {
        let path = way!["dependencies", name, "upstream"];
        let (kind, schemes) = (dialect.name(), dialect.schemes());
        let usual = schemes.first()?;
        let forms: Vec<String> = schemes.iter().map(|scheme| form(*scheme)).collect();
        let example = format!("write host:port or {}", forms.join(", "));
        let shown = self.quoted(path, text);
        let refuse = |this: &mut Self, reason: String| {
            let mistake = Mistake::at(this.place(path), reason);
            this.found.error(mistake.label(example.clone()));
            None
        };
        let text = text.trim();
        let spelled = match text.contains("://") {
            true => text.to_owned(),
            false => format!("{}://{text}", usual.name),
        };
        let Ok(url) = spelled.parse::<url::Url>() else {
            return refuse(self, format!("{shown} is no upstream of kind `{kind}`"));
        };
        let Some(scheme) = schemes.iter().find(|scheme| scheme.name == url.scheme()) else {
            return refuse(self, format!("{shown} is no upstream of kind `{kind}`"));
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let (Some(host), Some(port)) = (host, url.port().or(scheme.port)) else {
            return refuse(self, format!("{shown} does not say host and port"));
        };
        let more = !url.username().is_empty()
            || url.password().is_some()
            || !matches!(url.path(), "" | "/")
            || url.query().is_some();
        if more {
            let mistake = Mistake::at(
                self.place(path),
                format!("of the upstream of `{name}` only host and port are used"),
            );
            self.found.warn(mistake.label("who asks, and for what, the app says itself"));
        }
        let tls = if scheme.tls { "tls" } else { "tcp" };
        format!("{tls}://{host}:{port}").parse().ok()
    }

    /// An http or https URL.
    pub(super) fn url(&mut self, path: &[Step<'_>], text: &str, example: &str) -> Option<url::Url> {
        let shown = self.quoted(path, text);
        let reason = match text.trim().parse::<url::Url>() {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                return Some(url);
            }
            // `localhost:8000` reads as a scheme.
            Ok(url) if url.cannot_be_a_base() || !url.has_host() => {
                format!("{shown} lacks http:// or https://")
            }
            Ok(url) if self.is_secret(path) || url.scheme().len() > 12 => {
                format!("{shown} is no http or https URL")
            }
            Ok(url) => {
                format!("{shown} is a {} URL; only http and https can be used", url.scheme())
            }
            Err(_) if !text.contains("://") => format!("{shown} lacks http:// or https://"),
            Err(error) => format!("{shown} is no URL: {error}"),
        };
        let mistake = Mistake::at(self.place(path), reason);
        self.found.error(mistake.label(format!("write for example {example}")));
        None
    }

    /// The certificate for the app.
    pub(super) fn listen_tls(
        &mut self,
        name: &str,
        kind: Option<&str>,
        tls: Option<schema::ListenTls>,
        listens: bool,
    ) -> Option<ListenTls> {
        let tls = tls?;
        let raw = kind.and_then(dialect::by_kind).filter(|dialect| !speaks_http(*dialect));
        let passes = matches!(tls, schema::ListenTls::Passes);
        if let Some(kind) = kind.filter(|_| passes != raw.is_some()) {
            let place = self.place(way!["dependencies", name, "tls"]);
            let (text, right) = match passes {
                true => ("TLS passes unread where no HTTP is spoken", "write minted"),
                false => ("TLS is not ended here where no HTTP is spoken", "write pass"),
            };
            let text = format!("{text}, and `{name}` is of kind `{kind}`");
            self.found.error(Mistake::at(place, text).label(format!("{right}, or take it out")));
            return None;
        }
        // What passes unread may come by a gateway too.
        if !listens && !passes {
            let place = self.key_place(way!["dependencies", name, "tls"]);
            let text = format!("`tls` is for the `listen` of `{name}`, which has none");
            self.found
                .error(Mistake::at(place, text).label("give it a `listen`, or take `tls` out"));
        }
        match tls {
            schema::ListenTls::Minted => Some(ListenTls::Minted),
            schema::ListenTls::Passes => Some(ListenTls::Passes),
            schema::ListenTls::Files(CertFiles { cert, key }) => {
                let path = ["dependencies", name, "tls"];
                self.key_pair(path, ("cert", cert), ("key", key)).map(ListenTls::Files)
            }
        }
    }

    pub(super) fn upstream_tls(
        &mut self,
        name: &str,
        tls: Option<schema::UpstreamTls>,
        upstream: Option<&Upstream>,
    ) -> UpstreamTls {
        let Some(tls) = tls else { return UpstreamTls::default() };
        let here = ["dependencies", name, "upstream_tls"];
        let [a, b, c] = here;
        let plain = match upstream {
            Some(Upstream::Simulate(_)) => Some("the simulator is spoken to without TLS"),
            Some(Upstream::Url(url)) if url.scheme() == "http" => {
                Some("an http:// upstream is spoken to without TLS")
            }
            _ => None,
        };
        if let Some(reason) = plain {
            let place = self.key_place(way![a, b, c]);
            let text = format!("`upstream_tls` of `{name}` has no effect: {reason}");
            self.found.error(Mistake::at(place, text).label("write https://, or take it out"));
        }
        if tls.insecure == Some(true) {
            let place = self.place(way![a, b, c, "insecure"]);
            let text = format!("the upstream of `{name}` may show any certificate");
            let mistake = Mistake::at(place, text);
            self.found.warn(mistake.label("`ca_file` trusts one authority more, not everybody"));
        }
        let server_name = tls.server_name.map(|given| given.trim().to_owned());
        if let Some(given) = &server_name
            && rustls::pki_types::ServerName::try_from(given.as_str()).is_err()
        {
            let path = way![a, b, c, "server_name"];
            let text = format!("{} is no name of a server", self.quoted(path, given));
            let mistake = Mistake::at(self.place(path), text);
            self.found.error(mistake.label("write a host without a port: api.openai.com"));
        }
        let client = match (tls.client_cert, tls.client_key) {
            (None, None) => None,
            (cert, key) => self.key_pair(here, ("client_cert", cert), ("client_key", key)),
        };
        let ca_file = tls
            .ca_file
            .map(|file| self.pem(way![a, b, c, "ca_file"], &file, CERTIFICATE, "certificate"));
        UpstreamTls { ca_file, client, server_name, insecure: tls.insecure.unwrap_or_default() }
    }

    pub(super) fn http_version(
        &mut self,
        name: &str,
        kind: Option<&str>,
        given: Option<schema::HttpVersion>,
    ) -> crate::net::HttpVersion {
        let Some(schema::HttpVersion(version)) = given else { return Default::default() };
        if let Some(dialect) = kind.and_then(dialect::by_kind)
            && !speaks_http(dialect)
        {
            let place = self.key_place(way!["dependencies", name, "http"]);
            let text = format!("`{name}` is of kind `{}`, which speaks no HTTP", dialect.name());
            self.found.error(Mistake::at(place, text).label("take it out"));
        }
        version
    }

    /// A certificate and its key, which need each other.
    fn key_pair(
        &mut self,
        [a, b, c]: [&str; 3],
        (cert_key, cert): (&'static str, Option<String>),
        (key_key, key): (&'static str, Option<String>),
    ) -> Option<KeyPair> {
        let (Some(cert), Some(key)) = (&cert, &key) else {
            let (has, lacks) =
                if cert.is_some() { (cert_key, key_key) } else { (key_key, cert_key) };
            if !self.absence_is_told(way![a, b, c], lacks) {
                let place = self.place(way![a, b, c, has]);
                let text = match (&cert, &key) {
                    (None, None) => format!("`{c}` needs `{cert_key}` and `{key_key}`"),
                    _ => format!("`{has}` needs `{lacks}` beside it"),
                };
                self.found.error(Mistake::at(place, text));
            }
            return None;
        };
        let cert = self.pem(way![a, b, c, cert_key], cert, CERTIFICATE, "certificate");
        let key = self.pem(way![a, b, c, key_key], key, PRIVATE_KEY, "private key");
        Some(KeyPair { cert, key })
    }

    /// A PEM file beside the experiment, which must hold a block of this kind.
    fn pem(&mut self, path: &[Step<'_>], file: &str, mark: &str, what: &str) -> PathBuf {
        let full = self.base_dir.join(file);
        let mut text = Vec::new();
        let read = std::fs::File::open(&full)
            .and_then(|open| open.take(LARGEST_PEM).read_to_end(&mut text));
        let shown = self.quoted(path, file);
        match read {
            Ok(_) if String::from_utf8_lossy(&text).contains(mark) => {}
            Ok(_) => {
                let text = format!("the file {shown} holds no {what}");
                let label = format!("it must be PEM, with a line that ends in `{mark}`");
                self.found.error(Mistake::at(self.place(path), text).label(label));
            }
            Err(error) => {
                let reason = match error.kind() {
                    std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
                    _ => error.to_string(),
                };
                let text = format!("the file {shown} cannot be read: {reason}");
                let mistake = Mistake::at(self.place(path), text)
                    .hint("it is looked for beside the experiment file");
                match self.text_alone {
                    true => self.found.warn(mistake),
                    false => self.found.error(mistake),
                }
            }
        }
        full
    }
}

/// How a scheme is written: `redis://host:port`, or `redis://host` where the port is known.
fn form(scheme: Scheme) -> String {
    match scheme.port {
        None => format!("{}://host:port", scheme.name),
        Some(_) => format!("{}://host", scheme.name),
    }
}
