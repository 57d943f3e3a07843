"""What two services must agree on, or would otherwise write twice."""
