"""What every scenario uses: a cluster, images in it, releases of the chart, and traffic that must not break."""
