"""What a study showed: every number recomputed from stored scores, as tables, Markdown and one offline HTML file."""
