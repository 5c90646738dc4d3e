# One machine on Google Cloud, with firewall rules for its tag.
terraform {
  required_providers {
    google = { source = "hashicorp/google", version = ">= 5.0" }
  }
}

variable "project" {
  type = string
}

variable "zone" {
  type    = string
  default = "europe-west3-a"
}

provider "google" {
  project = var.project
  zone    = var.zone
}

resource "google_compute_firewall" "rtcctl" {
  name          = "rtcctl"
  network       = "default"
  source_ranges = ["0.0.0.0/0"]
  target_tags   = ["rtcctl"]

  dynamic "allow" {
    for_each = local.rtcctl_ports
    content {
      protocol = allow.value.protocol
      ports    = ["${allow.value.first}-${allow.value.last}"]
    }
  }
}

resource "google_compute_instance" "rtcctl" {
  name         = "rtcctl"
  machine_type = "e2-small"
  tags         = ["rtcctl"]

  boot_disk {
    initialize_params {
      image = "debian-cloud/debian-12"
    }
  }

  network_interface {
    network = "default"
    access_config {}
  }

  # Debian's images for Google have no cloud-init; what it would run is the startup script.
  metadata = {
    user-data      = local.rtcctl_user_data
    startup-script = yamldecode(local.rtcctl_user_data).write_files[0].content
  }
}

output "public_ip" {
  value = google_compute_instance.rtcctl.network_interface[0].access_config[0].nat_ip
}
