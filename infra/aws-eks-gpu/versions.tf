terraform {
  # Mocked providers in tests. OpenTofu has them since 1.8.
  required_version = ">= 1.7"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, < 7"
    }
  }
}
