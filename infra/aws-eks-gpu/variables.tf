variable "name" {
  description = "Name of the cluster; names of other resources begin with it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}$", var.name))
    error_message = "name must have at most 31 lower-case letters, digits and -, starting with a letter."
  }
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes. The charts need 1.30 or later."
  type        = string
  default     = "1.34"

  validation {
    condition     = can(regex("^1\\.(3[0-9]|[4-9][0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version must be a minor version from 1.30, such as 1.34."
  }
}

variable "api_cidrs" {
  description = "Networks from which the API server can be reached over the internet. Empty: only from within the VPC."
  type        = list(string)
  default     = []

  validation {
    condition     = !contains(var.api_cidrs, "0.0.0.0/0")
    error_message = "api_cidrs must not contain 0.0.0.0/0: name the networks that administer the cluster."
  }
}

variable "subnet_ids" {
  description = "Private subnets of an existing VPC, in two zones at least, with a way to the internet. Empty: a VPC is created."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.subnet_ids) != 1
    error_message = "subnet_ids must have two subnets at least, in different zones: EKS requires them."
  }
}

variable "vpc_id" {
  description = "VPC of subnet_ids."
  type        = string
  default     = ""
}

variable "cidr" {
  description = "Network of the VPC that is created."
  type        = string
  default     = "10.64.0.0/16"
}

variable "system_instance_types" {
  description = "Instance types of the nodes for everything that needs no GPU."
  type        = list(string)
  default     = ["m7i.large"]
}

variable "gpu_instance_types" {
  description = "Instance types of the GPU nodes. All must have the same number of GPUs."
  type        = list(string)
  default     = ["g6e.xlarge"]
}

variable "gpus_per_pod" {
  description = "Number of GPUs of a pod of the pool: at most those of a node."
  type        = number
  default     = 1

  validation {
    condition     = var.gpus_per_pod >= 1 && floor(var.gpus_per_pod) == var.gpus_per_pod
    error_message = "gpus_per_pod must be an integer, at least 1."
  }
}

variable "max_gpu_nodes" {
  description = "Maximum number of GPU nodes. Their minimum is 0."
  type        = number
  default     = 2

  validation {
    condition     = var.max_gpu_nodes >= 1
    error_message = "max_gpu_nodes must be at least 1."
  }
}

variable "gpu_disk_gib" {
  description = "Disk of a GPU node, in GiB. The image of Triton and vLLM takes 35 GiB, and twice that while it is replaced."
  type        = number
  default     = 200

  validation {
    condition     = var.gpu_disk_gib >= 100
    error_message = "gpu_disk_gib must be at least 100."
  }
}

variable "weights_gib" {
  description = "Size of the claim of the weights, in GiB. EFS grows by itself and bills what is stored."
  type        = number
  default     = 200
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
