"""The commands of the training job."""
