# One droplet on DigitalOcean with its firewall.
terraform {
  required_providers {
    digitalocean = { source = "digitalocean/digitalocean", version = ">= 2.30" }
  }
}

variable "ssh_from" {
  description = "Who may log in, like 203.0.113.7/32"
  type        = string
}

variable "ssh_key_fingerprint" {
  type = string
}

resource "digitalocean_droplet" "rtcctl" {
  name      = "rtcctl"
  region    = "fra1"
  size      = "s-1vcpu-1gb"
  image     = "debian-12-x64"
  ipv6      = true
  ssh_keys  = [var.ssh_key_fingerprint]
  user_data = local.rtcctl_user_data
}

resource "digitalocean_firewall" "rtcctl" {
  name        = "rtcctl"
  droplet_ids = [digitalocean_droplet.rtcctl.id]

  dynamic "inbound_rule" {
    for_each = local.rtcctl_ports
    content {
      protocol         = inbound_rule.value.protocol
      port_range       = "${inbound_rule.value.first}-${inbound_rule.value.last}"
      source_addresses = ["0.0.0.0/0", "::/0"]
    }
  }

  inbound_rule {
    protocol         = "tcp"
    port_range       = "22"
    source_addresses = [var.ssh_from]
  }

  dynamic "outbound_rule" {
    for_each = toset(["tcp", "udp"])
    content {
      protocol              = outbound_rule.value
      port_range            = "1-65535"
      destination_addresses = ["0.0.0.0/0", "::/0"]
    }
  }

  outbound_rule {
    protocol              = "icmp"
    destination_addresses = ["0.0.0.0/0", "::/0"]
  }
}

output "public_ip" {
  value = digitalocean_droplet.rtcctl.ipv4_address
}
