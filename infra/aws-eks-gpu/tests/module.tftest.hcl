# Applies the module with a mock of AWS: no account, no credentials.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/mock" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_efs_file_system" {
    defaults = { id = "fs-0123456789abcdef0" }
  }
}

variables {
  name = "llm"
}

run "a_cluster_with_its_own_network" {
  command = apply

  assert {
    condition     = yamldecode(output.values) == yamldecode(file("tests/values.yaml"))
    error_message = "the values of the chart are not those of tests/values.yaml: ${output.values}"
  }
  assert {
    condition     = aws_eks_node_group.gpu.scaling_config[0].min_size == 0 && aws_eks_node_group.gpu.scaling_config[0].desired_size == 0
    error_message = "GPU nodes must begin at none"
  }
  assert {
    condition     = one([for taint in aws_eks_node_group.gpu.taint : taint.effect if taint.key == "nvidia.com/gpu"]) == "NO_SCHEDULE"
    error_message = "GPU nodes must be kept for pods with GPUs"
  }
  assert {
    condition     = alltrue([for key, value in yamldecode(output.values).nodeSelector : aws_eks_node_group.gpu.labels[key] == value])
    error_message = "the node selector of the pods is not on the GPU nodes"
  }
  assert {
    condition     = yamldecode(output.storage_class).metadata.name == yamldecode(output.values).weights.storageClassName
    error_message = "the weights have another StorageClass"
  }
  assert {
    condition     = yamldecode(output.storage_class).parameters.fileSystemId == aws_efs_file_system.weights.id
    error_message = "the StorageClass has another file system"
  }
  assert {
    condition     = length(aws_subnet.private) == 2 && length(aws_efs_mount_target.weights) == 2 && length(aws_nat_gateway.this) == 1
    error_message = "two zones with a way out and a mount target each"
  }
  assert {
    condition     = !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "the API server must not be public by default"
  }
  assert {
    condition     = alltrue([for template in aws_launch_template.this : template.metadata_options[0].http_put_response_hop_limit == 1 && template.metadata_options[0].http_tokens == "required"])
    error_message = "pods could take the credentials of their node"
  }
  assert {
    condition     = aws_efs_file_system.weights.encrypted
    error_message = "weights must be encrypted at rest"
  }
}

run "subnets_of_an_existing_network" {
  command = apply

  variables {
    vpc_id       = "vpc-1"
    subnet_ids   = ["subnet-1", "subnet-2", "subnet-3"]
    api_cidrs    = ["192.0.2.0/24"]
    gpus_per_pod = 4
    weights_gib  = 500
  }

  assert {
    condition     = length(aws_vpc.this) == 0 && length(aws_subnet.private) == 0 && length(aws_nat_gateway.this) == 0
    error_message = "no network must be created"
  }
  assert {
    condition     = toset([for target in aws_efs_mount_target.weights : target.subnet_id]) == toset(["subnet-1", "subnet-2", "subnet-3"])
    error_message = "every subnet needs a mount target"
  }
  assert {
    condition     = toset(aws_eks_cluster.this.vpc_config[0].public_access_cidrs) == toset(["192.0.2.0/24"])
    error_message = "the API server is public to others"
  }
  assert {
    condition     = yamldecode(output.values).gpu.count == 4 && yamldecode(output.values).weights.size == "500Gi"
    error_message = "the values of the chart do not follow the variables"
  }
}

run "subnets_without_their_vpc_are_refused" {
  command = plan
  variables {
    subnet_ids = ["subnet-1", "subnet-2"]
  }
  expect_failures = [aws_eks_cluster.this]
}

run "an_api_server_open_to_everybody_is_refused" {
  command = plan
  variables {
    api_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.api_cidrs]
}

run "mistakes_are_refused" {
  command = plan
  variables {
    name               = "LLM"
    kubernetes_version = "1.29"
    subnet_ids         = ["subnet-1"]
    vpc_id             = "vpc-1"
    gpus_per_pod       = 1.5
    gpu_disk_gib       = 20
    max_gpu_nodes      = 0
  }
  expect_failures = [var.name, var.kubernetes_version, var.subnet_ids, var.gpus_per_pod, var.gpu_disk_gib, var.max_gpu_nodes]
}
