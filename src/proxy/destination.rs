//! Whom the gateways serve and where they connect to, so that they are no open proxy: nothing
//! link-local, no cloud metadata, no mail, not themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Where mail servers listen.
const MAIL: [u16; 3] = [25, 465, 587];
/// Where clouds tell machines their secrets, beside the link-local addresses.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];
const METADATA_NAMES: [&str; 4] =
    ["metadata.google.internal", "metadata.goog", "metadata", "instance-data.ec2.internal"];

/// Whether a client may use a gateway: one of this machine always may.
pub(super) fn serves(client: IpAddr, others: &[(IpAddr, u8)]) -> bool {
    let client = client.to_canonical();
    client.is_loopback() || others.iter().any(|(network, length)| within(client, *network, *length))
}

fn within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    // The bits behind the prefix count for nothing.
    match (address, network.to_canonical()) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let behind = 32u32.saturating_sub(length.into());
            (address.to_bits() ^ network.to_bits()).checked_shr(behind).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let behind = 128u32.saturating_sub(length.into());
            (address.to_bits() ^ network.to_bits()).checked_shr(behind).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// What speaks against a destination before its name is looked up.
pub(super) fn against_name(host: &str, port: u16) -> Option<String> {
    let host = host.trim_end_matches('.');
    if METADATA_NAMES.iter().any(|name| name.eq_ignore_ascii_case(host)) {
        return Some("cloud metadata is not served".to_owned());
    }
    MAIL.contains(&port).then(|| format!("port {port} is for mail"))
}

/// What speaks against an address, whatever name led to it. `local`: the client is of this machine.
pub(super) fn against(address: SocketAddr, local: bool, own: &[SocketAddr]) -> Option<String> {
    let ip = meant(address.ip());
    if is_link_local(ip) {
        return Some(format!("{ip} is link-local, where clouds keep their metadata"));
    }
    if METADATA.contains(&ip) {
        return Some(format!("{ip} is for cloud metadata"));
    }
    if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Some(format!("{ip} is no single machine"));
    }
    let this_machine = ip.is_loopback() || ip.is_unspecified();
    if this_machine && !local {
        return Some(format!("{ip} is this machine, and the client is of another one"));
    }
    let own = own.iter().find(|own| own.port() == address.port());
    own.is_some_and(|own| own.ip() == ip || this_machine || is_of_this_machine(ip))
        .then(|| "that is the proxy itself".to_owned())
}

/// The IPv4 address that an IPv6 address stands for (mapped, NAT64, 6to4), else the address.
fn meant(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = ip.to_canonical() else { return ip.to_canonical() };
    let parts = six.segments();
    let four = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match parts {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => four(high, low).into(),
        [0x2002, high, low, ..] => four(high, low).into(),
        _ => six.into(),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    }
}

/// Only an address of this machine can be bound to.
pub(super) fn is_of_this_machine(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn loopback_clients_and_named_networks_are_served() {
        let others = [(ip("10.1.0.0"), 16), (ip("fd00::"), 8), (ip("192.0.2.7"), 32)];
        for client in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(serves(ip(client), &[]), "{client}");
        }
        for client in ["10.1.255.1", "::ffff:10.1.0.1", "fdab::1", "192.0.2.7"] {
            assert!(serves(ip(client), &others), "{client}");
            assert!(!serves(ip(client), &[]), "{client}");
        }
        for client in ["10.2.0.1", "fe80::1", "192.0.2.8", "8.8.8.8"] {
            assert!(!serves(ip(client), &others), "{client}");
        }
        assert!(serves(ip("8.8.8.8"), &[(ip("0.0.0.0"), 0)]));
        assert!(!serves(ip("::8"), &[(ip("0.0.0.0"), 0)]));
        assert!(serves(ip("2001:db8::8"), &[(ip("::"), 0)]));
    }

    #[test]
    fn metadata_link_local_and_the_proxy_itself_are_refused() {
        let own: Vec<SocketAddr> = vec!["0.0.0.0:8888".parse().unwrap()];
        let refused = |address: &str, local| against(address.parse().unwrap(), local, &own);
        for address in [
            "169.254.169.254:80",
            "169.254.0.1:443",
            "[fe80::1]:80",
            "[fd00:ec2::254]:80",
            "100.100.100.200:80",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[2002:a9fe:a9fe::1]:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "127.0.0.1:8888",
            "[::1]:8888",
            "0.0.0.0:8888",
        ] {
            assert!(refused(address, true).is_some(), "{address}");
        }
        for address in ["127.0.0.1:80", "10.0.0.1:8888", "[2001:db8::1]:443", "192.0.2.1:80"] {
            assert_eq!(refused(address, true), None, "{address}");
        }
        assert!(refused("127.0.0.1:80", false).is_some());
        assert!(refused("0.0.0.0:80", false).is_some());
        assert_eq!(refused("10.0.0.1:80", false), None);
    }

    #[test]
    fn some_names_and_ports_are_refused_at_once() {
        assert!(against_name("Metadata.Google.Internal.", 80).is_some());
        assert!(against_name("mail.example.com", 25).is_some());
        assert_eq!(against_name("api.example.com", 443), None);
    }
}
