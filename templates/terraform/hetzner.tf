# One server on Hetzner Cloud with its firewall.
terraform {
  required_providers {
    hcloud = { source = "hetznercloud/hcloud", version = ">= 1.45" }
  }
}

variable "ssh_from" {
  description = "Who may log in, like 203.0.113.7/32"
  type        = string
}

variable "ssh_key_name" {
  type = string
}

resource "hcloud_firewall" "rtcctl" {
  name = "rtcctl"

  dynamic "rule" {
    for_each = local.rtcctl_ports
    content {
      direction   = "in"
      protocol    = rule.value.protocol
      port        = "${rule.value.first}-${rule.value.last}"
      source_ips  = ["0.0.0.0/0", "::/0"]
      description = rule.value.why
    }
  }

  rule {
    direction   = "in"
    protocol    = "tcp"
    port        = "22"
    source_ips  = [var.ssh_from]
    description = "SSH"
  }
}

resource "hcloud_server" "rtcctl" {
  name         = "rtcctl"
  server_type  = "cx22"
  location     = "fsn1"
  image        = "debian-12"
  ssh_keys     = [var.ssh_key_name]
  firewall_ids = [hcloud_firewall.rtcctl.id]
  user_data    = local.rtcctl_user_data
}

output "public_ip" {
  value = hcloud_server.rtcctl.ipv4_address
}
