"""Where results are sent besides the folder that they always stand in: one file per tracker, none unless asked."""
