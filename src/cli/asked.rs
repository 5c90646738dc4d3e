//! Whom commands may ask outside of this host.

use clap::Args as ClapArgs;

use crate::error::{Failure, Kind, Result};
use crate::setup::facts::outside::{STUN_SERVERS, Sources};
use crate::text;

#[derive(Debug, ClapArgs)]
pub(super) struct Asked {
    /// Ask nobody outside of this host: no DNS, no STUN, no time servers, no metadata service
    #[arg(long, env = "RTCCTL_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(super) offline: bool,
    /// Do not ask the cloud's metadata service
    #[arg(long)]
    no_cloud: bool,
    /// Ask this STUN server for the public address, in place of the usual ones; repeatable
    #[arg(long, value_name = "HOST:PORT", env = "RTCCTL_STUN_SERVERS", value_delimiter = ',')]
    stun_server: Vec<String>,
}

impl Asked {
    pub(super) fn sources(&self) -> Result<Sources> {
        Ok(Sources {
            offline: self.offline,
            metadata: !self.no_cloud,
            stun: servers(&self.stun_server, &STUN_SERVERS, "--stun-server")?,
        })
    }
}

/// The servers that were named, or the usual ones.
pub(super) fn servers(given: &[String], usual: &[&str], flag: &str) -> Result<Vec<String>> {
    let given: Vec<String> = given.iter().map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect();
    for server in &given {
        let is_good =
            server.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_good {
            return Err(Failure::new(Kind::Usage, text!("`{}` is no server", server.escape_debug()))
                .hinted(text!("write `{} HOST:PORT`", flag)));
        }
    }
    Ok(if given.is_empty() { usual.iter().map(|one| (*one).to_owned()).collect() } else { given })
}
