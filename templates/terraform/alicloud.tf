# 阿里云：一台云服务器和它的安全组。One machine on Alibaba Cloud with its security group.
terraform {
  required_providers {
    alicloud = { source = "aliyun/alicloud", version = ">= 1.220" }
  }
}

variable "region" {
  description = "Ports 80 and 443 of domains in mainland China need an ICP filing"
  type        = string
  default     = "cn-hongkong"
}

variable "ssh_from" {
  description = "Who may log in, like 203.0.113.7/32"
  type        = string
}

variable "key_name" {
  description = "A key pair that is there in the region"
  type        = string
}

provider "alicloud" {
  region = var.region
}

data "alicloud_zones" "rtcctl" {
  available_resource_creation = "VSwitch"
}

data "alicloud_images" "debian" {
  owners      = "system"
  name_regex  = "^debian_12.*x64"
  most_recent = true
}

resource "alicloud_vpc" "rtcctl" {
  vpc_name   = "rtcctl"
  cidr_block = "10.7.0.0/16"
}

resource "alicloud_vswitch" "rtcctl" {
  vpc_id     = alicloud_vpc.rtcctl.id
  cidr_block = "10.7.0.0/24"
  zone_id    = data.alicloud_zones.rtcctl.zones[0].id
}

resource "alicloud_security_group" "rtcctl" {
  security_group_name = "rtcctl"
  vpc_id              = alicloud_vpc.rtcctl.id
}

resource "alicloud_security_group_rule" "rtcctl" {
  for_each          = local.rtcctl_ports
  security_group_id = alicloud_security_group.rtcctl.id
  type              = "ingress"
  ip_protocol       = each.value.protocol
  port_range        = "${each.value.first}/${each.value.last}"
  cidr_ip           = "0.0.0.0/0"
  description       = each.value.why
}

resource "alicloud_security_group_rule" "ssh" {
  security_group_id = alicloud_security_group.rtcctl.id
  type              = "ingress"
  ip_protocol       = "tcp"
  port_range        = "22/22"
  cidr_ip           = var.ssh_from
}

resource "alicloud_instance" "rtcctl" {
  instance_name              = "rtcctl"
  instance_type              = "ecs.t6-c1m1.large"
  image_id                   = data.alicloud_images.debian.images[0].id
  vswitch_id                 = alicloud_vswitch.rtcctl.id
  security_groups            = [alicloud_security_group.rtcctl.id]
  key_name                   = var.key_name
  internet_max_bandwidth_out = 20
  user_data                  = base64encode(local.rtcctl_user_data)
  # The metadata service by tokens only, which a relay cannot be made to ask for.
  http_tokens = "required"
}

output "public_ip" {
  value = alicloud_instance.rtcctl.public_ip
}
