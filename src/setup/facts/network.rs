//! By which interface and address this host goes out, for each family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sys::net::{Family, default_source};

/// A way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub interface: String,
    /// `None`: the interface leads out by itself.
    pub gateway: Option<IpAddr>,
    /// The address that packets leave with.
    pub source: Option<IpAddr>,
}

/// The default route of each family; `None`: there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    pub v4: Option<Route>,
    pub v6: Option<Route>,
}

impl Routes {
    #[must_use]
    pub fn of(&self, family: Family) -> Option<&Route> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }
}

/// Reads the kernel's tables.
#[must_use]
pub fn routes() -> Routes {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let with_source = |family, route: Option<(String, Option<IpAddr>)>| {
        route.map(|(interface, gateway)| Route { interface, gateway, source: default_source(family) })
    };
    Routes {
        v4: with_source(Family::V4, default_v4(&read("/proc/net/route"))),
        v6: with_source(Family::V6, default_v6(&read("/proc/net/ipv6_route"))),
    }
}

/// The default route with the lowest metric in `/proc/net/route`.
fn default_v4(table: &str) -> Option<(String, Option<IpAddr>)> {
    const UP: u32 = 1;
    const REJECT: u32 = 0x200;
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let flags = number(3)?;
        let is_default = number(1)? == 0 && number(7)? == 0 && flags & UP != 0 && flags & REJECT == 0;
        // The kernel prints the address as the number it is in memory.
        let gateway = Ipv4Addr::from(number(2)?.to_ne_bytes());
        let metric = fields.get(6)?.parse::<u32>().ok()?;
        let gateway = (!gateway.is_unspecified()).then_some(IpAddr::V4(gateway));
        is_default.then(|| (metric, (fields[0].to_owned(), gateway)))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, route)| route)
}

/// The default route with the lowest metric in `/proc/net/ipv6_route`.
fn default_v6(table: &str) -> Option<(String, Option<IpAddr>)> {
    const UP: u32 = 1;
    const REJECT: u32 = 0x200;
    let routes = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [target, prefix, _, _, gateway, metric, _, _, flags, interface] = fields.get(..10)? else { return None };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let is_all = u128::from_str_radix(target, 16).ok()? == 0 && *prefix == "00";
        let is_default = is_all && flags & UP != 0 && flags & REJECT == 0 && *interface != "lo";
        let gateway = Ipv6Addr::from(u128::from_str_radix(gateway, 16).ok()?);
        let gateway = (!gateway.is_unspecified()).then_some(IpAddr::V6(gateway));
        let metric = u32::from_str_radix(metric, 16).ok()?;
        is_default.then(|| (metric, ((*interface).to_owned(), gateway)))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, route)| route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_with_the_lowest_metric_is_the_way_out() {
        let table = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth1\t00000000\t00000000\t0201\t0\t0\t1\t00000000\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
garbage
";
        assert_eq!(default_v4(table), Some(("eth0".to_owned(), Some("192.168.0.1".parse().unwrap()))));
        assert_eq!(default_v4("Iface\nppp0 00000000 00000000 0001 0 0 0 00000000"), Some(("ppp0".to_owned(), None)));
        assert_eq!(default_v4(""), None);
    }

    #[test]
    fn a_route_that_rejects_is_no_way_out() {
        let zero = "0".repeat(32);
        let lo = format!("{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n");
        assert_eq!(default_v6(&lo), None);
        let gateway = "fe800000000000000000000000000001";
        let eth = format!("{zero} 00 {zero} 00 {gateway} 00000400 00000001 00000000 00000003 eth0\n");
        assert_eq!(default_v6(&(lo + &eth)), Some(("eth0".to_owned(), Some("fe80::1".parse().unwrap()))));
        assert_eq!(default_v6("short line\n"), None);
    }
}
