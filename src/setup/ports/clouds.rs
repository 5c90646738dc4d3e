//! The ports as commands of cloud providers, to be run where their tools are logged in. What nobody here can know is a
//! variable at the top, `REPLACE-WITH-...`, with the way to find it.
//!
//! Every one adds to a group that is there: a new group on these providers denies whatever it does not list, SSH too.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::PortUse;
use super::format::{Sheet, by_transport};
use super::set::range_text;
use crate::sys::ports::Transport;

const ANY_V4: &str = "0.0.0.0/0";
const ANY_V6: &str = "::/0";

/// The public IPv4 address, or what to replace.
fn public_v4(sheet: &Sheet) -> String {
    let found = sheet.public_ips.iter().find(|address| matches!(address, IpAddr::V4(_)));
    found.map_or_else(|| "REPLACE-WITH-PUBLIC-IPV4".to_owned(), ToString::to_string)
}

/// `rtcctl: STUN and TURN`: what providers show beside a rule.
fn description(sheet: &Sheet, port: &PortUse) -> String {
    format!("{}: {}", sheet.name, port.why)
}

/// A JSON document for a shell: in single quotes, which JSON itself never needs.
fn quoted(document: &Value) -> String {
    format!("'{}'", document.to_string().replace('\'', "'\\''"))
}

pub(super) fn aws(sheet: &Sheet) -> String {
    let permissions: Vec<Value> = sheet
        .uses
        .iter()
        .map(|port| {
            // What AWS takes in a description.
            let told = description(sheet, port);
            json!({
                "IpProtocol": port.transport.to_string(),
                "FromPort": port.ports.start(),
                "ToPort": port.ports.end(),
                "IpRanges": [{ "CidrIp": ANY_V4, "Description": told }],
                "Ipv6Ranges": [{ "CidrIpv6": ANY_V6, "Description": told }],
            })
        })
        .collect();
    format!(
        "# The security group of the instance; this finds it:\n\
         #   aws ec2 describe-instances --filters Name=ip-address,Values={} \\\n\
         #     --query 'Reservations[].Instances[].SecurityGroups[].GroupId' --output text\n\
         GROUP_ID=REPLACE-WITH-SECURITY-GROUP-ID\n\
         aws ec2 authorize-security-group-ingress --group-id \"$GROUP_ID\" --ip-permissions {}\n",
        public_v4(sheet),
        quoted(&Value::Array(permissions))
    )
}

pub(super) fn gcloud(sheet: &Sheet) -> String {
    let rules: Vec<String> = by_transport(sheet)
        .iter()
        .flat_map(|(transport, ports)| {
            ports.ranges().iter().map(move |range| format!("{transport}:{}", range_text(range, "-")))
        })
        .collect();
    let mut text = format!(
        "# The instance, its zone and its network; this finds the first two:\n\
         #   gcloud compute instances list --filter='networkInterfaces.accessConfigs.natIP={}' --format='value(name,zone)'\n\
         INSTANCE=REPLACE-WITH-INSTANCE-NAME\nZONE=REPLACE-WITH-ZONE\nNETWORK=default\n",
        public_v4(sheet)
    );
    // A rule has sources of one family only.
    for (suffix, source) in [("", ANY_V4), ("-ipv6", ANY_V6)] {
        let _ = writeln!(
            text,
            "gcloud compute firewall-rules create {name}{suffix} --network=\"$NETWORK\" --direction=INGRESS --action=ALLOW \
             --rules={rules} --source-ranges={source} --target-tags={name}",
            name = sheet.name,
            rules = rules.join(","),
        );
    }
    let _ = writeln!(text, "gcloud compute instances add-tags \"$INSTANCE\" --zone=\"$ZONE\" --tags={}", sheet.name);
    text
}

pub(super) fn az(sheet: &Sheet) -> String {
    let mut text = format!(
        "# The network security group of the machine's network card or subnet; this lists all:\n\
         #   az network nsg list --query '[].{{group:resourceGroup,name:name}}' --output table\n\
         # A Standard public address ({}) lets nothing in without one.\n\
         RESOURCE_GROUP=REPLACE-WITH-RESOURCE-GROUP\nNSG=REPLACE-WITH-NETWORK-SECURITY-GROUP\n",
        public_v4(sheet)
    );
    // Priorities are unique in a group; these are seldom taken.
    for (priority, (transport, ports)) in (3478..).zip(by_transport(sheet)) {
        let protocol = match transport {
            Transport::Tcp => "Tcp",
            Transport::Udp => "Udp",
        };
        let _ = writeln!(
            text,
            "az network nsg rule create --resource-group \"$RESOURCE_GROUP\" --nsg-name \"$NSG\" --name {}-{transport} \
             --priority {priority} --direction Inbound --access Allow --protocol {protocol} \
             --source-address-prefixes '*' --source-port-ranges '*' --destination-address-prefixes '*' \
             --destination-port-ranges {}",
            sheet.name,
            ports.text("-", " ")
        );
    }
    text
}

pub(super) fn aliyun(sheet: &Sheet) -> String {
    let mut text = format!(
        "# The region and the security group of the instance; this finds the group:\n\
         #   aliyun ecs DescribeInstances --RegionId REGION --PublicIpAddresses '[\"{}\"]'\n\
         REGION=REPLACE-WITH-REGION\nGROUP_ID=REPLACE-WITH-SECURITY-GROUP-ID\n\
         aliyun ecs AuthorizeSecurityGroup --RegionId \"$REGION\" --SecurityGroupId \"$GROUP_ID\"",
        public_v4(sheet)
    );
    let sources = [("SourceCidrIp", ANY_V4), ("Ipv6SourceCidrIp", ANY_V6)];
    let rules = sheet.uses.iter().flat_map(|port| sources.map(|source| (port, source)));
    for (number, (port, (key, network))) in (1..).zip(rules) {
        let protocol = port.transport.to_string().to_uppercase();
        let _ = write!(
            text,
            " \\\n  --Permissions.{number}.IpProtocol {protocol} --Permissions.{number}.PortRange {}/{} \
             --Permissions.{number}.{key} {network} --Permissions.{number}.Policy Accept \
             --Permissions.{number}.Description '{}'",
            port.ports.start(),
            port.ports.end(),
            description(sheet, port)
        );
    }
    text
}

pub(super) fn tccli(sheet: &Sheet) -> String {
    let sources = [("CidrBlock", ANY_V4), ("Ipv6CidrBlock", ANY_V6)];
    let ingress: Vec<Value> = sheet
        .uses
        .iter()
        .flat_map(|port| sources.map(|source| (port, source)))
        .map(|(port, (key, network))| {
            json!({
                "Protocol": port.transport.to_string().to_uppercase(),
                "Port": range_text(&port.ports, "-"),
                key: network,
                "Action": "ACCEPT",
                "PolicyDescription": description(sheet, port),
            })
        })
        .collect();
    format!(
        "# The region and the security group of the instance; this finds the group:\n\
         #   tccli cvm DescribeInstances --region REGION --Filters '[{{\"Name\":\"public-ip-address\",\"Values\":[\"{}\"]}}]'\n\
         REGION=REPLACE-WITH-REGION\nGROUP_ID=REPLACE-WITH-SECURITY-GROUP-ID\n\
         tccli vpc CreateSecurityGroupPolicies --region \"$REGION\" --SecurityGroupId \"$GROUP_ID\" \
         --SecurityGroupPolicySet {}\n",
        public_v4(sheet),
        quoted(&json!({ "Ingress": ingress }))
    )
}

pub(super) fn doctl(sheet: &Sheet) -> String {
    let rules: Vec<String> = sheet
        .uses
        .iter()
        .map(|port| {
            let ports = range_text(&port.ports, "-");
            format!("protocol:{},ports:{ports},address:{ANY_V4},address:{ANY_V6}", port.transport)
        })
        .collect();
    format!(
        "# A droplet without a cloud firewall needs nothing. With one, its number; this finds it:\n\
         #   doctl compute firewall list\n\
         FIREWALL_ID=REPLACE-WITH-FIREWALL-ID\n\
         doctl compute firewall add-rules \"$FIREWALL_ID\" --inbound-rules \"{}\"\n",
        rules.join(" ")
    )
}

pub(super) fn hcloud(sheet: &Sheet) -> String {
    let mut text = String::from(
        "# A server without a cloud firewall needs nothing. With one, its name; this finds it:\n\
         #   hcloud firewall list\n\
         FIREWALL=REPLACE-WITH-FIREWALL-NAME\n",
    );
    for port in &sheet.uses {
        let _ = writeln!(
            text,
            "hcloud firewall add-rule \"$FIREWALL\" --direction in --protocol {} --port {} --source-ips {ANY_V4} \
             --source-ips {ANY_V6} --description '{}'",
            port.transport,
            range_text(&port.ports, "-"),
            description(sheet, port)
        );
    }
    text
}

/// The ports as a local value that any provider's resources can be made from, and AWS's resources made from it.
pub(super) fn terraform(sheet: &Sheet) -> String {
    let mut text = String::from("locals {\n  rtcctl_ports = {\n");
    for port in &sheet.uses {
        let (first, last) = (port.ports.start(), port.ports.end());
        let _ = writeln!(
            text,
            "    \"{}-{first}\" = {{ protocol = \"{0}\", first = {first}, last = {last}, why = \"{}\" }}",
            port.transport,
            description(sheet, port)
        );
    }
    text.push_str(
        "  }\n}\n\nvariable \"rtcctl_security_group_id\" {\n  description = \"REPLACE-WITH-SECURITY-GROUP-ID of the \
         instance, by -var or in a tfvars file\"\n  type        = string\n}\n",
    );
    for (name, key, network) in [("ipv4", "cidr_ipv4", ANY_V4), ("ipv6", "cidr_ipv6", ANY_V6)] {
        let _ = write!(
            text,
            "\nresource \"aws_vpc_security_group_ingress_rule\" \"rtcctl_{name}\" {{\n  \
             for_each          = local.rtcctl_ports\n  \
             security_group_id = var.rtcctl_security_group_id\n  \
             ip_protocol       = each.value.protocol\n  \
             from_port         = each.value.first\n  \
             to_port           = each.value.last\n  \
             {key}         = \"{network}\"\n  \
             description       = each.value.why\n}}\n"
        );
    }
    text
}
