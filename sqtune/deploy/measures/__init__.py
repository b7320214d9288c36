"""What an export costs and saves beside float32."""
