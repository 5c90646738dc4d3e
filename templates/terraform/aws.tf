# One machine on AWS, with its own security group. The images are Debian's own.
terraform {
  required_providers {
    aws = { source = "hashicorp/aws", version = ">= 5.0" }
  }
}

variable "region" {
  type    = string
  default = "eu-central-1"
}

variable "ssh_from" {
  description = "Who may log in, like 203.0.113.7/32"
  type        = string
}

variable "ssh_key_name" {
  description = "A key pair that is there in the region"
  type        = string
}

provider "aws" {
  region = var.region
}

data "aws_ami" "debian" {
  most_recent = true
  owners      = ["136693071363"]
  filter {
    name   = "name"
    values = ["debian-12-amd64-*"]
  }
}

resource "aws_security_group" "rtcctl" {
  name        = "rtcctl"
  description = "WebRTC calls"

  dynamic "ingress" {
    for_each = local.rtcctl_ports
    content {
      description      = ingress.value.why
      protocol         = ingress.value.protocol
      from_port        = ingress.value.first
      to_port          = ingress.value.last
      cidr_blocks      = ["0.0.0.0/0"]
      ipv6_cidr_blocks = ["::/0"]
    }
  }

  ingress {
    description = "SSH"
    protocol    = "tcp"
    from_port   = 22
    to_port     = 22
    cidr_blocks = [var.ssh_from]
  }

  egress {
    protocol         = "-1"
    from_port        = 0
    to_port          = 0
    cidr_blocks      = ["0.0.0.0/0"]
    ipv6_cidr_blocks = ["::/0"]
  }
}

resource "aws_instance" "rtcctl" {
  ami                    = data.aws_ami.debian.id
  instance_type          = "t3.small"
  key_name               = var.ssh_key_name
  vpc_security_group_ids = [aws_security_group.rtcctl.id]
  user_data              = local.rtcctl_user_data

  # Only the second version of the metadata service, which a relay cannot be made to ask.
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  tags = { Name = "rtcctl" }
}

output "public_ip" {
  value = aws_instance.rtcctl.public_ip
}
