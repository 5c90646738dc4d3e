# One machine on Azure. A Standard public address lets nothing in without a security group.
terraform {
  required_providers {
    azurerm = { source = "hashicorp/azurerm", version = ">= 4.0" }
  }
}

variable "subscription_id" {
  type = string
}

variable "location" {
  type    = string
  default = "westeurope"
}

variable "ssh_from" {
  description = "Who may log in, like 203.0.113.7/32"
  type        = string
}

variable "ssh_public_key" {
  description = "The text of an OpenSSH public key (RSA)"
  type        = string
}

provider "azurerm" {
  subscription_id = var.subscription_id
  features {}
}

resource "azurerm_resource_group" "rtcctl" {
  name     = "rtcctl"
  location = var.location
}

resource "azurerm_virtual_network" "rtcctl" {
  name                = "rtcctl"
  resource_group_name = azurerm_resource_group.rtcctl.name
  location            = azurerm_resource_group.rtcctl.location
  address_space       = ["10.7.0.0/16"]
}

resource "azurerm_subnet" "rtcctl" {
  name                 = "rtcctl"
  resource_group_name  = azurerm_resource_group.rtcctl.name
  virtual_network_name = azurerm_virtual_network.rtcctl.name
  address_prefixes     = ["10.7.0.0/24"]
}

resource "azurerm_public_ip" "rtcctl" {
  name                = "rtcctl"
  resource_group_name = azurerm_resource_group.rtcctl.name
  location            = azurerm_resource_group.rtcctl.location
  allocation_method   = "Static"
  sku                 = "Standard"
}

resource "azurerm_network_security_group" "rtcctl" {
  name                = "rtcctl"
  resource_group_name = azurerm_resource_group.rtcctl.name
  location            = azurerm_resource_group.rtcctl.location

  dynamic "security_rule" {
    for_each = { for index, name in keys(local.rtcctl_ports) : name => merge(local.rtcctl_ports[name], { priority = 200 + index }) }
    content {
      name                       = "rtcctl-${security_rule.key}"
      priority                   = security_rule.value.priority
      direction                  = "Inbound"
      access                     = "Allow"
      protocol                   = security_rule.value.protocol == "tcp" ? "Tcp" : "Udp"
      source_port_range          = "*"
      destination_port_range     = "${security_rule.value.first}-${security_rule.value.last}"
      source_address_prefix      = "*"
      destination_address_prefix = "*"
    }
  }

  security_rule {
    name                       = "ssh"
    priority                   = 100
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "Tcp"
    source_port_range          = "*"
    destination_port_range     = "22"
    source_address_prefix      = var.ssh_from
    destination_address_prefix = "*"
  }
}

resource "azurerm_network_interface" "rtcctl" {
  name                = "rtcctl"
  resource_group_name = azurerm_resource_group.rtcctl.name
  location            = azurerm_resource_group.rtcctl.location

  ip_configuration {
    name                          = "rtcctl"
    subnet_id                     = azurerm_subnet.rtcctl.id
    private_ip_address_allocation = "Dynamic"
    public_ip_address_id          = azurerm_public_ip.rtcctl.id
  }
}

resource "azurerm_network_interface_security_group_association" "rtcctl" {
  network_interface_id      = azurerm_network_interface.rtcctl.id
  network_security_group_id = azurerm_network_security_group.rtcctl.id
}

resource "azurerm_linux_virtual_machine" "rtcctl" {
  name                  = "rtcctl"
  resource_group_name   = azurerm_resource_group.rtcctl.name
  location              = azurerm_resource_group.rtcctl.location
  size                  = "Standard_B1s"
  admin_username        = "operator"
  network_interface_ids = [azurerm_network_interface.rtcctl.id]
  custom_data           = base64encode(local.rtcctl_user_data)

  admin_ssh_key {
    username   = "operator"
    public_key = var.ssh_public_key
  }

  os_disk {
    caching              = "ReadWrite"
    storage_account_type = "StandardSSD_LRS"
  }

  source_image_reference {
    publisher = "Debian"
    offer     = "debian-12"
    sku       = "12-gen2"
    version   = "latest"
  }
}

output "public_ip" {
  value = azurerm_public_ip.rtcctl.ip_address
}
