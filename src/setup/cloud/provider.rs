//! Which cloud this host is in, by what its firmware says, and what that cloud's metadata service is asked.

use crate::text;
use crate::words::Text;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A cloud whose metadata service is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provider {
    Aliyun,
    Aws,
    Azure,
    DigitalOcean,
    Gcp,
    Hetzner,
    Huawei,
    Oracle,
    Tencent,
}

/// What the firmware says of the machine; empty where it says nothing or this user may not read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dmi {
    pub bios_vendor: String,
    pub chassis_asset_tag: String,
    pub product_name: String,
    pub product_serial: String,
    pub product_uuid: String,
    pub sys_vendor: String,
}

/// What every Azure machine has for a chassis.
const AZURE_CHASSIS: &str = "7783-7084-3265-9085-8269-3286-77";
const ORACLE_CHASSIS: &str = "OracleCloud.com";
const HUAWEI_CHASSIS: &str = "HUAWEICLOUD";

/// Where most clouds have their service.
const LINK_LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
/// The same for machines of Amazon and Google without IPv4.
const AWS_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254));
const GCP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254));
const ALIYUN: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200));
/// What `metadata.tencentyun.com` stands for; the name is known inside of that cloud only.
const TENCENT: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23));

/// Seconds that a session's token is asked for: it is used at once.
pub(super) const TOKEN_TTL: &str = "60";

/// How a metadata service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Script {
    /// Tried in this order until one can be connected to.
    pub(super) at: &'static [IpAddr],
    pub(super) host: &'static str,
    /// Sent with every request.
    pub(super) header: Option<(&'static str, &'static str)>,
    pub(super) token: Option<Token>,
    /// Asked one after the other until one tells an address.
    pub(super) asks: &'static [Ask],
}

/// How a session is begun, where a service wants one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) path: &'static str,
    pub(super) ttl_header: &'static str,
    pub(super) header: &'static str,
}

/// A request for the public address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) path: &'static str,
    pub(super) form: Form,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An address and nothing else.
    Text,
    /// The load balancer that gives a machine of Azure's Standard SKU its address.
    AzureLoadBalancer,
    /// The whole droplet.
    DigitalOcean,
}

impl Provider {
    pub const ALL: [Self; 9] = [
        Self::Aliyun,
        Self::Aws,
        Self::Azure,
        Self::DigitalOcean,
        Self::Gcp,
        Self::Hetzner,
        Self::Huawei,
        Self::Oracle,
        Self::Tencent,
    ];

    /// The word for scripts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aliyun => "aliyun",
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::DigitalOcean => "digitalocean",
            Self::Gcp => "gcp",
            Self::Hetzner => "hetzner",
            Self::Huawei => "huawei",
            Self::Oracle => "oracle",
            Self::Tencent => "tencent",
        }
    }

    /// What people call it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Aliyun => "Alibaba Cloud",
            Self::Aws => "Amazon EC2",
            Self::Azure => "Microsoft Azure",
            Self::DigitalOcean => "DigitalOcean",
            Self::Gcp => "Google Compute Engine",
            Self::Hetzner => "Hetzner Cloud",
            Self::Huawei => "Huawei Cloud",
            Self::Oracle => "Oracle Cloud",
            Self::Tencent => "Tencent Cloud",
        }
    }

    /// What its users call the filter in front of a machine.
    #[must_use]
    pub fn filter(self) -> Text {
        match self {
            Self::Aliyun | Self::Aws | Self::Huawei | Self::Tencent => text!("security group"),
            Self::Azure => text!("network security group"),
            Self::DigitalOcean | Self::Hetzner => text!("cloud firewall"),
            Self::Gcp => text!("VPC firewall"),
            Self::Oracle => text!("security list"),
        }
    }

    /// `None` if its service does not tell the public address.
    pub(super) fn script(self) -> Option<Script> {
        const EC2: Ask = Ask { path: "/latest/meta-data/public-ipv4", form: Form::Text };
        let plain = Script { at: &[LINK_LOCAL], host: "169.254.169.254", header: None, token: None, asks: &[EC2] };
        Some(match self {
            Self::Aliyun => Script {
                at: &[ALIYUN],
                host: "100.100.100.200",
                token: Some(Token {
                    path: "/latest/api/token",
                    ttl_header: "X-aliyun-ecs-metadata-token-ttl-seconds",
                    header: "X-aliyun-ecs-metadata-token",
                }),
                asks: &[Ask { path: "/latest/meta-data/eipv4", form: Form::Text }, EC2],
                ..plain
            },
            Self::Aws => Script {
                at: &[LINK_LOCAL, AWS_V6],
                token: Some(Token {
                    path: "/latest/api/token",
                    ttl_header: "X-aws-ec2-metadata-token-ttl-seconds",
                    header: "X-aws-ec2-metadata-token",
                }),
                ..plain
            },
            Self::Azure => Script {
                header: Some(("Metadata", "true")),
                asks: &[
                    Ask {
                        path: "/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress\
                         ?api-version=2021-08-01&format=text",
                        form: Form::Text,
                    },
                    Ask { path: "/metadata/loadbalancer?api-version=2020-10-01", form: Form::AzureLoadBalancer },
                ],
                ..plain
            },
            Self::DigitalOcean => {
                Script { asks: &[Ask { path: "/metadata/v1.json", form: Form::DigitalOcean }], ..plain }
            }
            Self::Gcp => Script {
                at: &[LINK_LOCAL, GCP_V6],
                host: "metadata.google.internal",
                header: Some(("Metadata-Flavor", "Google")),
                asks: &[Ask {
                    path: "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip",
                    form: Form::Text,
                }],
                ..plain
            },
            Self::Hetzner => {
                Script { asks: &[Ask { path: "/hetzner/v1/metadata/public-ipv4", form: Form::Text }], ..plain }
            }
            Self::Huawei => Script {
                token: Some(Token {
                    path: "/meta-data/latest/api/token",
                    ttl_header: "X-Metadata-Token-Ttl-Seconds",
                    header: "X-Metadata-Token",
                }),
                ..plain
            },
            Self::Oracle => return None,
            Self::Tencent => Script { at: &[TENCENT], host: "metadata.tencentyun.com", ..plain },
        })
    }
}

/// The cloud that a machine with this firmware is in.
#[must_use]
pub fn recognise(dmi: &Dmi) -> Option<Provider> {
    let Dmi { bios_vendor, chassis_asset_tag, product_name, product_serial, product_uuid, sys_vendor } = dmi;
    let begins_with_ec2 = |text: &str| text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("ec2"));
    let is_amazon = sys_vendor == "Amazon EC2"
        || bios_vendor == "Amazon EC2"
        || bios_vendor.ends_with(".amazon")
        // Machines on Xen say it by their number alone.
        || (begins_with_ec2(product_uuid) && begins_with_ec2(product_serial));
    let signs = [
        (is_amazon, Provider::Aws),
        (product_name == "Google Compute Engine" || product_serial.starts_with("GoogleCloud-"), Provider::Gcp),
        (chassis_asset_tag == AZURE_CHASSIS, Provider::Azure),
        (chassis_asset_tag == ORACLE_CHASSIS, Provider::Oracle),
        (chassis_asset_tag == HUAWEI_CHASSIS || product_name.starts_with("HUAWEICLOUD"), Provider::Huawei),
        (product_name == "Alibaba Cloud ECS", Provider::Aliyun),
        (sys_vendor == "Tencent Cloud", Provider::Tencent),
        (sys_vendor == "DigitalOcean", Provider::DigitalOcean),
        (sys_vendor == "Hetzner", Provider::Hetzner),
    ];
    signs.into_iter().find_map(|(is_so, provider)| is_so.then_some(provider))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cloud_is_known_by_its_firmware_and_a_machine_at_home_by_none() {
        let blank = Dmi::default();
        let text = str::to_owned;
        let machines = [
            (Dmi { sys_vendor: text("Amazon EC2"), ..blank.clone() }, Some(Provider::Aws)),
            (Dmi { bios_vendor: text("4.11.amazon"), ..blank.clone() }, Some(Provider::Aws)),
            (
                Dmi {
                    product_uuid: text("EC2E1916-9099-7CAF"),
                    product_serial: text("ec2e1916-9099-7caf"),
                    ..blank.clone()
                },
                Some(Provider::Aws),
            ),
            // A number that begins so by chance.
            (Dmi { product_uuid: text("ec2e1916-0000"), product_serial: text("None"), ..blank.clone() }, None),
            (Dmi { product_name: text("Google Compute Engine"), ..blank.clone() }, Some(Provider::Gcp)),
            (Dmi { product_serial: text("GoogleCloud-0123"), ..blank.clone() }, Some(Provider::Gcp)),
            (
                Dmi {
                    sys_vendor: text("Microsoft Corporation"),
                    chassis_asset_tag: text(AZURE_CHASSIS),
                    ..blank.clone()
                },
                Some(Provider::Azure),
            ),
            // Hyper-V at home is by the same vendor.
            (Dmi { sys_vendor: text("Microsoft Corporation"), ..blank.clone() }, None),
            (Dmi { chassis_asset_tag: text("OracleCloud.com"), ..blank.clone() }, Some(Provider::Oracle)),
            (
                Dmi { product_name: text("OpenStack Nova"), chassis_asset_tag: text("HUAWEICLOUD"), ..blank.clone() },
                Some(Provider::Huawei),
            ),
            (Dmi { product_name: text("OpenStack Nova"), ..blank.clone() }, None),
            (Dmi { product_name: text("Alibaba Cloud ECS"), ..blank.clone() }, Some(Provider::Aliyun)),
            (
                Dmi { sys_vendor: text("Tencent Cloud"), product_name: text("CVM"), ..blank.clone() },
                Some(Provider::Tencent),
            ),
            (Dmi { sys_vendor: text("DigitalOcean"), ..blank.clone() }, Some(Provider::DigitalOcean)),
            (Dmi { sys_vendor: text("Hetzner"), ..blank.clone() }, Some(Provider::Hetzner)),
            (Dmi { sys_vendor: text("QEMU"), ..blank.clone() }, None),
            (Dmi { product_uuid: text("é"), ..blank.clone() }, None),
            (blank, None),
        ];
        for (dmi, wanted) in machines {
            assert_eq!(recognise(&dmi), wanted, "{dmi:?}");
        }
    }

    #[test]
    fn only_addresses_of_the_own_network_are_asked() {
        for provider in Provider::ALL {
            let Some(script) = provider.script() else { continue };
            for at in script.at {
                let is_near = match at {
                    IpAddr::V4(v4) => v4.is_link_local() || *v4 == Ipv4Addr::new(100, 100, 100, 200),
                    IpAddr::V6(v6) => v6.is_unique_local(),
                };
                assert!(is_near, "{at}");
            }
            assert!(!script.asks.is_empty());
        }
    }
}
