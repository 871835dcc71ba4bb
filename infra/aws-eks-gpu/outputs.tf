locals {
  gpu_labels    = { "tritonllm.io/gpu" = "true" }
  storage_class = "efs"
}

output "cluster_name" {
  description = "Name of the cluster, for `aws eks update-kubeconfig --name`."
  value       = aws_eks_cluster.this.name
}

output "values" {
  description = "Values of charts/tritonllm-pool that follow from the cluster, as YAML."
  value = yamlencode({
    gpu          = { count = var.gpus_per_pod }
    nodeSelector = local.gpu_labels
    tolerations  = [{ key = "nvidia.com/gpu", operator = "Exists", effect = "NoSchedule" }]
    weights = {
      storageClassName = local.storage_class
      accessMode       = "ReadWriteMany"
      size             = "${var.weights_gib}Gi"
    }
  })
}

output "storage_class" {
  description = "The StorageClass of the weights, as YAML. Each claim is a directory of the file system, which is the pods' user's."
  value = yamlencode({
    apiVersion    = "storage.k8s.io/v1"
    kind          = "StorageClass"
    metadata      = { name = local.storage_class }
    provisioner   = "efs.csi.aws.com"
    reclaimPolicy = "Retain"
    parameters = {
      provisioningMode = "efs-ap"
      fileSystemId     = aws_efs_file_system.weights.id
      directoryPerms   = "700"
      uid              = "10001"
      gid              = "10001"
    }
  })
}
