# 腾讯云：一台云服务器和它的安全组。One machine on Tencent Cloud with its security group.
terraform {
  required_providers {
    tencentcloud = { source = "tencentcloudstack/tencentcloud", version = ">= 1.81" }
  }
}

variable "region" {
  description = "Ports 80 and 443 of domains in mainland China need an ICP filing"
  type        = string
  default     = "ap-hongkong"
}

variable "zone" {
  type    = string
  default = "ap-hongkong-2"
}

variable "ssh_from" {
  description = "Who may log in, like 203.0.113.7/32"
  type        = string
}

variable "key_id" {
  description = "The number of a key pair (skey-...)"
  type        = string
}

provider "tencentcloud" {
  region = var.region
}

data "tencentcloud_images" "debian" {
  image_type       = ["PUBLIC_IMAGE"]
  image_name_regex = "^Debian Server 12.*64"
}

resource "tencentcloud_vpc" "rtcctl" {
  name       = "rtcctl"
  cidr_block = "10.7.0.0/16"
}

resource "tencentcloud_subnet" "rtcctl" {
  name              = "rtcctl"
  vpc_id            = tencentcloud_vpc.rtcctl.id
  availability_zone = var.zone
  cidr_block        = "10.7.0.0/24"
}

resource "tencentcloud_security_group" "rtcctl" {
  name = "rtcctl"
}

resource "tencentcloud_security_group_rule_set" "rtcctl" {
  security_group_id = tencentcloud_security_group.rtcctl.id

  dynamic "ingress" {
    for_each = local.rtcctl_ports
    content {
      action      = "ACCEPT"
      protocol    = upper(ingress.value.protocol)
      port        = ingress.value.first == ingress.value.last ? tostring(ingress.value.first) : "${ingress.value.first}-${ingress.value.last}"
      cidr_block  = "0.0.0.0/0"
      description = ingress.value.why
    }
  }

  ingress {
    action      = "ACCEPT"
    protocol    = "TCP"
    port        = "22"
    cidr_block  = var.ssh_from
    description = "SSH"
  }

  egress {
    action     = "ACCEPT"
    protocol   = "ALL"
    cidr_block = "0.0.0.0/0"
  }
}

resource "tencentcloud_instance" "rtcctl" {
  instance_name              = "rtcctl"
  availability_zone          = var.zone
  instance_type              = "S5.SMALL2"
  image_id                   = data.tencentcloud_images.debian.images[0].image_id
  vpc_id                     = tencentcloud_vpc.rtcctl.id
  subnet_id                  = tencentcloud_subnet.rtcctl.id
  orderly_security_groups    = [tencentcloud_security_group.rtcctl.id]
  key_ids                    = [var.key_id]
  allocate_public_ip         = true
  internet_max_bandwidth_out = 20
  user_data_raw              = local.rtcctl_user_data
}

output "public_ip" {
  value = tencentcloud_instance.rtcctl.public_ip
}
