//! The catalogue of reusable faults: the `faults/` folder, embedded in the binary.
//!
//! A profile holds the keys of a fault without its `target`; its leading comment names the real
//! failure that it mimics.

/// A reusable fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// `llm/stalled_stream`: the folder is the kind of dependency.
    pub name: &'static str,
    /// The YAML.
    pub text: &'static str,
}

/// Lists the files of `faults/`; a test compares the list with the folder.
macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        /// All profiles, by name.
        pub const PROFILES: &[Profile] = &[$(Profile {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/faults/", $name, ".yaml")),
        }),*];
    };
}

embedded! {
    "embedding/embedding_errors",
    "embedding/embedding_rate_limited",
    "embedding/slow_embeddings",
    "grpc/grpc_deadline",
    "grpc/grpc_exhausted",
    "grpc/grpc_unavailable",
    "grpc/http2_calm",
    "grpc/http2_goaway",
    "grpc/http2_refused_stream",
    "llm/cold_start",
    "llm/corrupt_events",
    "llm/cut_stream",
    "llm/done_missing",
    "llm/finished_for_length",
    "llm/gpu_saturated",
    "llm/html_5xx",
    "llm/hung_stream",
    "llm/late_head",
    "llm/midstream_error",
    "llm/overloaded",
    "llm/quota_exhausted",
    "llm/rate_limited",
    "llm/rate_limited_in_silence",
    "llm/realtime_events_lost",
    "llm/realtime_socket_dropped",
    "llm/realtime_try_again_later",
    "llm/reset_stream",
    "llm/retry_after_a_day",
    "llm/silent_truncation",
    "llm/slow_down",
    "llm/slow_first_token",
    "llm/slow_tokens",
    "llm/stalled_stream",
    "llm/stalled_with_keepalive",
    "network/blackhole",
    "network/certificate_expired",
    "network/jitter",
    "network/latency",
    "network/reset",
    "network/slow_close",
    "network/slow_link",
    "network/small_pieces",
    "network/tls_handshake_stall",
    "outage/full_outage",
    "outage/provider_limping",
    "outage/refused",
    "vector_db/brownout",
    "vector_db/fewer_rows",
    "vector_db/read_only_replica",
    "vector_db/read_timeouts",
    "vector_db/redis_loading",
    "vector_db/replicas_lost",
    "vector_db/search_timeouts",
    "vector_db/statement_timeouts",
    "vector_db/too_many_clients",
    "vector_db/vector_db_rate_limited",
}

impl Profile {
    /// The name without its folder.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('/').next().unwrap_or(self.name)
    }

    /// The leading comment as text: the real failure that this mimics.
    pub fn comment(&self) -> String {
        let lines = self.text.lines().take_while(|line| line.starts_with('#'));
        let words: Vec<&str> = lines.map(|line| line.trim_start_matches('#').trim()).collect();
        words.join(" ").trim().to_owned()
    }
}

/// What a name in `use:` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    One(Profile),
    /// A short name that several folders hold.
    Several(Vec<&'static str>),
    Nothing,
}

/// Finds a profile by its full or its short name; `-` and `_` are the same.
pub fn find(name: &str) -> Found {
    let wanted = name.trim().trim_end_matches(".yaml").replace('-', "_");
    if let Some(exact) = PROFILES.iter().find(|one| one.name == wanted) {
        return Found::One(*exact);
    }
    let matching: Vec<&Profile> =
        PROFILES.iter().filter(|one| one.short_name() == wanted).collect();
    match matching.as_slice() {
        [] => Found::Nothing,
        [one] => Found::One(**one),
        several => Found::Several(several.iter().map(|one| one.name).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_list_is_the_folder() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("faults");
        let mut files = Vec::new();
        for folder in std::fs::read_dir(&root).unwrap() {
            let folder = folder.unwrap().path();
            for file in std::fs::read_dir(&folder).unwrap() {
                let file = file.unwrap().path();
                let name = file.strip_prefix(&root).unwrap().with_extension("");
                files.push(name.to_str().unwrap().replace('\\', "/"));
            }
        }
        files.sort();
        let listed: Vec<&str> = PROFILES.iter().map(|one| one.name).collect();
        assert_eq!(listed, files, "`embedded!` lists all of faults/, by name");
    }

    #[test]
    fn each_profile_says_what_it_mimics() {
        for profile in PROFILES {
            assert!(profile.comment().len() > 40, "{} needs a comment", profile.name);
        }
    }

    #[test]
    fn short_names_do() {
        assert!(matches!(find("vector-db/brownout"), Found::One(_)));
        assert!(matches!(find("brownout"), Found::One(_)));
        assert_eq!(find("nonsense"), Found::Nothing);
    }
}
