# A file system for weights, which all nodes can mount.

resource "aws_efs_file_system" "weights" {
  creation_token  = "${var.name}-weights"
  encrypted       = true
  throughput_mode = "elastic"
  tags            = merge(var.tags, { Name = "${var.name}-weights" })
}

resource "aws_security_group" "weights" {
  name_prefix = "${var.name}-weights-"
  description = "NFS from the nodes of ${var.name}"
  vpc_id      = local.vpc_id
  tags        = var.tags

  ingress {
    description     = "NFS"
    protocol        = "tcp"
    from_port       = 2049
    to_port         = 2049
    security_groups = [aws_eks_cluster.this.vpc_config[0].cluster_security_group_id]
  }
}

resource "aws_efs_mount_target" "weights" {
  count           = local.create_vpc ? length(local.zones) : length(var.subnet_ids)
  file_system_id  = aws_efs_file_system.weights.id
  subnet_id       = local.subnet_ids[count.index]
  security_groups = [aws_security_group.weights.id]
}
