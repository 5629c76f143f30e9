//! URLs that the environment has already: one that names a dependency's upstream leads past us,
//! so it is turned to us. Everything but host and port (and the scheme, where TLS ends with us)
//! stays as it is: user, password, database, options.

use super::{Address, Environment, Place, Variable, Variables, Wiring, known};

/// Names that keep what they have: they are no URL of a dependency.
const OTHERS: &[&str] =
    &["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "GRPC_PROXY", "PWD", "OLDPWD"];

/// The names that are turned even when they name another host, as long as the file has exactly one
/// dependency of the kind: by convention they mean the database or the cache.
const BY_KIND: &[(&str, &str)] =
    &[("DATABASE_URL", "postgres"), ("POSTGRES_URL", "postgres"), ("REDIS_URL", "redis")];

/// Turns what leads past us.
pub(super) fn turned(wiring: &Wiring<'_>, environment: &Environment, variables: &mut Variables) {
    for (name, value) in environment {
        let shouted = name.to_ascii_uppercase();
        if OTHERS.contains(&&*shouted) || shouted.starts_with("BROWNOUT_") {
            continue;
        }
        let Some(parts) = Parts::read(value) else { continue };
        let found = wiring.dependencies.iter().find(|one| parts.mean(one)).or_else(|| {
            let (_, kind) = BY_KIND.iter().find(|(known, _)| known == name)?;
            let mut all = wiring.dependencies.iter().filter(|one| one.kind == *kind);
            let only = all.next().filter(|_| all.next().is_none())?;
            speaks(parts.scheme, kind).then_some(only)
        });
        let Some(dependency) = found else { continue };
        let Some(place) = wiring.place(dependency) else { continue };
        if let Some(value) = parts.at(dependency, &place) {
            let secret = !parts.user.is_empty() || parts.rest.contains(['?', '#']);
            variables.set(Variable { name: name.clone(), value, secret });
        }
    }
}

/// Whether a scheme (`postgresql+asyncpg`) is that of a kind.
fn speaks(scheme: &str, kind: &str) -> bool {
    let plain = scheme.split('+').next().unwrap_or(scheme);
    match kind {
        "postgres" => matches!(plain, "postgres" | "postgresql"),
        "redis" => matches!(plain, "redis" | "rediss"),
        "tcp" => true,
        _ => matches!(plain, "http" | "https"),
    }
}

/// A URL in pieces, each as it stands.
struct Parts<'a> {
    scheme: &'a str,
    /// With its `@`.
    user: &'a str,
    host: &'a str,
    port: Option<u16>,
    /// From the path on.
    rest: &'a str,
}

impl<'a> Parts<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (scheme, behind) = text.split_once("://")?;
        let schemes = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
        if scheme.is_empty() || !scheme.chars().all(schemes) {
            return None;
        }
        let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
        let (authority, rest) = behind.split_at(end);
        let at = authority.rfind('@').map_or(0, |at| at + 1);
        let (user, place) = authority.split_at(at);
        // Several hosts, or a socket: not ours to turn.
        if place.contains(',') || place.contains('%') || rest.contains("host=") {
            return None;
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(six) => {
                let (host, port) = six.split_once(']')?;
                (host, port.strip_prefix(':'))
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = match port {
            Some(port) => Some(port.parse().ok()?),
            None => None,
        };
        Some(Self { scheme, user, host, port, rest })
    }

    /// Whether this is how an app names a dependency without us.
    fn mean(&self, dependency: &Address<'_>) -> bool {
        if !speaks(self.scheme, dependency.kind) {
            return false;
        }
        let port = self.port.or_else(|| usual_port(self.scheme));
        let by_upstream = dependency.upstream.is_some_and(|upstream| {
            let theirs = upstream.port_or_known_default().or_else(|| usual_port(upstream.scheme()));
            let host = upstream.host_str().unwrap_or_default().trim_matches(['[', ']']);
            same_host(self.host, host) && theirs.is_some() && port == theirs
        });
        by_upstream || dependency.hosts.iter().any(|host| host.eq_ignore_ascii_case(self.host))
    }

    fn at(&self, dependency: &Address<'_>, place: &Place) -> Option<String> {
        let http = matches!(self.scheme, "http" | "https");
        let redis = matches!(self.scheme, "redis" | "rediss");
        let scheme = if (http || redis) && dependency.kind != "tcp" {
            known::scheme(if redis { "redis" } else { dependency.kind }, dependency.tls)
        } else {
            self.scheme
        };
        // A listener puts the upstream's base path in front of every path itself.
        let base = dependency.upstream.map_or("", |url| url.path().trim_end_matches('/'));
        let rest = match self.rest.strip_prefix(base) {
            _ if !http => self.rest,
            Some(rest) if rest.is_empty() || rest.starts_with(['/', '?', '#']) => rest,
            _ => return None,
        };
        Some(format!("{scheme}://{}{place}{rest}", self.user))
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme.split('+').next()? {
        "http" => Some(80),
        "https" => Some(443),
        "postgres" | "postgresql" => Some(5432),
        "redis" | "rediss" => Some(6379),
        _ => None,
    }
}

/// Whether two names mean the same host.
pub(super) fn same_host(one: &str, other: &str) -> bool {
    let loopback = |host: &str| host == "localhost" || host == "127.0.0.1" || host == "::1";
    one.eq_ignore_ascii_case(other) || (loopback(one) && loopback(other))
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::super::tests::{address, values};
    use super::super::{Environment, Wiring};

    fn turned(kind: &str, upstream: &str, name: &str, value: &str) -> Option<String> {
        let upstream = Url::parse(upstream).unwrap();
        let mut dependency = address("one", kind, 4005);
        dependency.upstream = Some(&upstream);
        let wiring = Wiring { dependencies: vec![dependency], ..Wiring::default() };
        values(&wiring, &[(name, value)]).get(name).cloned()
    }

    #[test]
    fn everything_but_the_place_is_kept() {
        for (kind, upstream, value, expected) in [
            (
                "postgres",
                "tcp://db.intern:5432",
                "postgresql+asyncpg://me:s%40c@db.intern/app?sslmode=disable",
                "postgresql+asyncpg://me:s%40c@127.0.0.1:4005/app?sslmode=disable",
            ),
            (
                "redis",
                "tcp://127.0.0.1:6379",
                "redis://:pw@localhost:6379/2",
                "redis://:pw@127.0.0.1:4005/2",
            ),
            ("redis", "tcp://[::1]:6379", "rediss://[::1]/0", "redis://127.0.0.1:4005/0"),
            (
                "openai",
                "https://api.openai.com",
                "https://api.openai.com/v1",
                "http://127.0.0.1:4005/v1",
            ),
            ("openai", "https://gw.x/openai", "https://gw.x/openai/v1", "http://127.0.0.1:4005/v1"),
        ] {
            assert_eq!(
                turned(kind, upstream, "MY_URL", value).as_deref(),
                Some(expected),
                "{value}"
            );
        }
    }

    #[test]
    fn what_means_something_else_stays() {
        for (kind, upstream, value) in [
            ("postgres", "tcp://db.intern:5432", "mysql://me@db.intern:5432/app"),
            ("postgres", "tcp://db.intern:5432", "postgresql://db.intern:5433/app"),
            ("postgres", "tcp://db.intern:5432", "postgresql://a,b/app"),
            ("postgres", "tcp://db.intern:5432", "postgresql:///app?host=/run/postgresql"),
            ("openai", "https://api.openai.com", "https://example.com/v1"),
            ("openai", "https://gw.x/openai", "https://gw.x/other/v1"),
            ("openai", "https://api.openai.com", "not a url"),
        ] {
            assert_eq!(turned(kind, upstream, "MY_URL", value), None, "{value}");
        }
        let proxy = turned("openai", "http://proxy:3128", "http_proxy", "http://proxy:3128");
        assert_eq!(proxy, None);
    }

    #[test]
    fn the_usual_names_of_the_only_database_are_turned_whatever_they_name() {
        let url = turned("postgres", "tcp://x:1", "DATABASE_URL", "postgres://me:pw@db/app");
        assert_eq!(url.as_deref(), Some("postgres://me:pw@127.0.0.1:4005/app"));
        let other = turned("postgres", "tcp://x:1", "DATABASE_URL", "mysql://me:pw@db/app");
        assert_eq!(other, None);
    }

    #[test]
    fn a_password_is_marked_as_a_secret() {
        let wiring =
            Wiring { dependencies: vec![address("db", "postgres", 1)], ..Wiring::default() };
        let environment: Environment =
            [("DATABASE_URL".to_owned(), "postgres://me:pw@db/app".to_owned())].into();
        let variables = wiring.variables(&environment);
        let secrets: Vec<_> = variables.iter().filter(|one| one.secret).collect();
        assert_eq!(secrets.len(), 1);
        assert_eq!(secrets[0].name, "DATABASE_URL");
        assert!(variables.iter().all(|one| one.secret || !one.value.contains("pw")));
    }
}
