//! `redirect --print`: the rules that lead an app's connections to the transparent gateway. It
//! prints them and executes nothing.

use super::args::{Firewall, RedirectArgs};
use super::{Failed, exit, terminal};

/// Where packets for a `tproxy` gateway are marked and routed.
const TPROXY_MARK: u32 = 0x1;
const TPROXY_TABLE: u32 = 15001;
/// This machine itself, and addresses that must not be intercepted: link-local ones are where
/// clouds hand out credentials.
const NOT_V4: &[&str] = &["127.0.0.0/8", "169.254.0.0/16"];
const NOT_V6: &[&str] = &["::1/128", "fe80::/10", "fd00:ec2::/32"];

pub(crate) fn run(args: &RedirectArgs) -> Result<u8, Failed> {
    terminal::out(&rules(args))?;
    Ok(exit::PASS)
}

fn rules(args: &RedirectArgs) -> String {
    let rules = Rules {
        port: args.port,
        own: match (args.mark, args.uid) {
            (Some(mark), _) => Own::Mark(mark),
            (None, uid) => Own::User(uid.unwrap_or_else(|| rustix::process::getuid().as_raw())),
        },
        ports: args.ports.clone(),
    };
    match (args.print, args.remove, args.tproxy) {
        (Firewall::Nft, true, tproxy) => rules.remove_nft(tproxy),
        (Firewall::Iptables, true, tproxy) => rules.remove_iptables(tproxy),
        (Firewall::Nft, false, false) => rules.nft(),
        (Firewall::Nft, false, true) => rules.nft_tproxy(),
        (Firewall::Iptables, false, false) => rules.iptables(),
        (Firewall::Iptables, false, true) => rules.iptables_tproxy(),
    }
}

/// Whose connections stay as they are.
enum Own {
    User(u32),
    Mark(u32),
}

struct Rules {
    port: u16,
    own: Own,
    /// Empty: all.
    ports: Vec<u16>,
}

impl Rules {
    fn words(&self, how: &str, remove: &str) -> String {
        let own = match self.own {
            Own::User(uid) => format!("connections of user {uid}, as which brownout must run"),
            Own::Mark(mark) => {
                format!(
                    "connections with the mark {mark}, which brownout sets: serve --socket-mark {mark}"
                )
            }
        };
        let app = match self.own {
            Own::User(0) => "# Warning: user 0 is root; the app must run as another user.\n",
            _ => "",
        };
        format!(
            "# Redirects outgoing TCP connections to brownout's transparent gateway on port {}.\n\
             # Left alone: {own}; loopback; link-local addresses.\n\
             {app}# QUIC (UDP to 443) is rejected, so that clients fall back to TCP.\n\
             # Apply as root, in the network namespace of the app: {how}\n\
             # Remove: {remove}\n",
            self.port
        )
    }

    fn nft_own(&self) -> String {
        match self.own {
            Own::User(uid) => format!("meta skuid {uid}"),
            Own::Mark(mark) => format!("meta mark {mark:#x}"),
        }
    }

    /// What all chains of nft leave alone.
    fn nft_left_alone(&self) -> String {
        format!(
            "    {} return\n    oif \"lo\" return\n    ip daddr {{ {} }} return\n    \
             ip6 daddr {{ {} }} return\n",
            self.nft_own(),
            NOT_V4.join(", "),
            NOT_V6.join(", ")
        )
    }

    fn nft_ports(&self) -> String {
        match &self.ports[..] {
            [] => "meta l4proto tcp".to_owned(),
            ports => format!("tcp dport {{ {} }}", list(ports, ", ")),
        }
    }

    fn nft_quic(&self) -> String {
        format!(
            "  chain quic {{\n    type filter hook output priority 0; policy accept;\n{}    \
             udp dport 443 reject\n  }}\n",
            self.nft_left_alone()
        )
    }

    fn nft(&self) -> String {
        let words = self.words("sudo nft -f FILE", "sudo nft delete table inet brownout");
        format!(
            "{words}table inet brownout\ndelete table inet brownout\ntable inet brownout {{\n  \
             chain output {{\n    type nat hook output priority -100; policy accept;\n{}    \
             {} redirect to :{}\n  }}\n{}}}\n",
            self.nft_left_alone(),
            self.nft_ports(),
            self.port,
            self.nft_quic()
        )
    }

    fn nft_tproxy(&self) -> String {
        let words = self.words(
            "sudo nft -f FILE, then the commands at its end",
            "sudo nft delete table inet brownout, and the commands of --remove",
        );
        let routes: String =
            route_commands("add").iter().map(|line| format!("#   {line}\n")).collect();
        format!(
            "{words}table inet brownout\ndelete table inet brownout\ntable inet brownout {{\n  \
             chain output {{\n    type route hook output priority -150; policy accept;\n{}    \
             ct direction reply return\n    {} meta mark set {TPROXY_MARK:#x}\n  }}\n  \
             chain prerouting {{\n    type filter hook prerouting priority -150; policy accept;\n    \
             meta mark {TPROXY_MARK:#x} meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:{port} accept\n    \
             meta mark {TPROXY_MARK:#x} meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:{port} accept\n  \
             }}\n{}}}\n# Marked packets must be routed back in:\n{routes}",
            self.nft_left_alone(),
            self.nft_ports(),
            self.nft_quic(),
            port = self.port,
        )
    }

    fn remove_nft(&self, tproxy: bool) -> String {
        let mut text = "nft delete table inet brownout\n".to_owned();
        if tproxy {
            for line in route_commands("del") {
                text.push_str(&format!("{line}\n"));
            }
        }
        text
    }

    fn iptables_own(&self) -> String {
        match self.own {
            Own::User(uid) => format!("-m owner --uid-owner {uid}"),
            Own::Mark(mark) => format!("-m mark --mark {mark:#x}"),
        }
    }

    /// Matches, one for at most 15 ports: so many go into one rule.
    fn iptables_ports(&self) -> Vec<String> {
        match &self.ports[..] {
            [] => vec!["-p tcp".to_owned()],
            [port] => vec![format!("-p tcp --dport {port}")],
            ports => ports
                .chunks(15)
                .map(|some| format!("-p tcp -m multiport --dports {}", list(some, ",")))
                .collect(),
        }
    }

    /// A chain of our own that leaves alone what must be.
    fn iptables_chain(&self, tool: &str, table: &str, chain: &str) -> Vec<String> {
        let not = if tool == "iptables" { NOT_V4 } else { NOT_V6 };
        let mut lines = vec![
            format!("{tool} -t {table} -N {chain}"),
            format!("{tool} -t {table} -A {chain} {} -j RETURN", self.iptables_own()),
            format!("{tool} -t {table} -A {chain} -o lo -j RETURN"),
        ];
        lines
            .extend(not.iter().map(|to| format!("{tool} -t {table} -A {chain} -d {to} -j RETURN")));
        lines
    }

    fn iptables_quic(&self, tool: &str) -> Vec<String> {
        let mut lines = self.iptables_chain(tool, "filter", "BROWNOUT_QUIC");
        lines.push(format!("{tool} -t filter -A BROWNOUT_QUIC -p udp --dport 443 -j REJECT"));
        lines.push(format!("{tool} -t filter -I OUTPUT -p udp -j BROWNOUT_QUIC"));
        lines
    }

    fn iptables(&self) -> String {
        let mut text =
            self.words("sudo sh FILE", "brownout redirect --print iptables --remove | sudo sh");
        text.push_str("set -e\n");
        for tool in ["iptables", "ip6tables"] {
            let mut lines = self.iptables_chain(tool, "nat", "BROWNOUT");
            lines.extend(self.iptables_ports().iter().map(|ports| {
                format!("{tool} -t nat -A BROWNOUT {ports} -j REDIRECT --to-ports {}", self.port)
            }));
            lines.push(format!("{tool} -t nat -I OUTPUT -p tcp -j BROWNOUT"));
            lines.extend(self.iptables_quic(tool));
            text.push_str(&(lines.join("\n") + "\n"));
        }
        text
    }

    fn iptables_tproxy(&self) -> String {
        let mut text = self.words(
            "sudo sh FILE",
            "brownout redirect --print iptables --tproxy --remove | sudo sh",
        );
        text.push_str("set -e\n");
        for (tool, here) in [("iptables", "127.0.0.1"), ("ip6tables", "::1")] {
            let mut lines = self.iptables_chain(tool, "mangle", "BROWNOUT");
            lines
                .push(format!("{tool} -t mangle -A BROWNOUT -m conntrack --ctdir REPLY -j RETURN"));
            lines.extend(self.iptables_ports().iter().map(|ports| {
                format!("{tool} -t mangle -A BROWNOUT {ports} -j MARK --set-mark {TPROXY_MARK:#x}")
            }));
            lines.push(format!("{tool} -t mangle -I OUTPUT -p tcp -j BROWNOUT"));
            lines.push(format!(
                "{tool} -t mangle -I PREROUTING -p tcp -m mark --mark {TPROXY_MARK:#x} -j TPROXY \
                 --on-ip {here} --on-port {} --tproxy-mark {TPROXY_MARK:#x}",
                self.port
            ));
            lines.extend(self.iptables_quic(tool));
            text.push_str(&(lines.join("\n") + "\n"));
        }
        text.push_str(&(route_commands("add").join("\n") + "\n"));
        text
    }

    fn remove_iptables(&self, tproxy: bool) -> String {
        let mut lines = Vec::new();
        for (tool, here) in [("iptables", "127.0.0.1"), ("ip6tables", "::1")] {
            let table = if tproxy { "mangle" } else { "nat" };
            lines.push(format!("{tool} -t {table} -D OUTPUT -p tcp -j BROWNOUT"));
            if tproxy {
                lines.push(format!(
                    "{tool} -t mangle -D PREROUTING -p tcp -m mark --mark {TPROXY_MARK:#x} -j \
                     TPROXY --on-ip {here} --on-port {} --tproxy-mark {TPROXY_MARK:#x}",
                    self.port
                ));
            }
            lines.push(format!("{tool} -t filter -D OUTPUT -p udp -j BROWNOUT_QUIC"));
            for (table, chain) in [(table, "BROWNOUT"), ("filter", "BROWNOUT_QUIC")] {
                lines.push(format!("{tool} -t {table} -F {chain}"));
                lines.push(format!("{tool} -t {table} -X {chain}"));
            }
        }
        if tproxy {
            lines.extend(route_commands("del"));
        }
        lines.join("\n") + "\n"
    }
}

/// Packets with the mark are delivered here, wherever they are addressed to.
fn route_commands(verb: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (family, all) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
        lines
            .push(format!("ip {family} rule {verb} fwmark {TPROXY_MARK:#x} lookup {TPROXY_TABLE}"));
        lines.push(format!("ip {family} route {verb} local {all} dev lo table {TPROXY_TABLE}"));
    }
    lines
}

fn list(ports: &[u16], between: &str) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(print: Firewall, tproxy: bool, remove: bool, mark: Option<u32>) -> String {
        let uid = mark.is_none().then_some(1337);
        rules(&RedirectArgs { print, port: 15001, uid, mark, ports: vec![443, 80], tproxy, remove })
    }

    #[test]
    fn our_own_connections_come_first_and_stay() {
        for tproxy in [false, true] {
            for (tool, own) in [
                (Firewall::Nft, "meta skuid 1337 return"),
                (Firewall::Iptables, "-m owner --uid-owner 1337 -j RETURN"),
            ] {
                let text = printed(tool, tproxy, false, None);
                let act = if tproxy { "mark" } else { "15001\n" };
                let own = text.find(own).expect("our own are left alone");
                assert!(text[own..].contains(act), "{text}");
                assert!(text.contains("443") && text.contains("80"), "{text}");
                assert!(text.contains("169.254.0.0/16") && text.contains("fe80::/10"), "{text}");
            }
        }
        let marked = printed(Firewall::Nft, false, false, Some(0x77));
        assert!(marked.contains("meta mark 0x77 return") && !marked.contains("skuid"), "{marked}");
    }

    #[test]
    fn everything_that_is_added_is_removed() {
        for tproxy in [false, true] {
            let added = printed(Firewall::Iptables, tproxy, false, None);
            let removed = printed(Firewall::Iptables, tproxy, true, None);
            for line in added.lines().filter(|line| line.contains(" -N ") || line.contains(" -I "))
            {
                let undone = line.replace(" -N ", " -X ").replace(" -I ", " -D ");
                assert!(removed.contains(&undone), "{undone}\nis not in\n{removed}");
            }
            for line in added.lines().filter(|line| line.starts_with("ip ")) {
                assert!(removed.contains(&line.replace(" add ", " del ")), "{line}");
            }
        }
    }
}
