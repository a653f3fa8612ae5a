"""Views: values in, text out. Nothing here decides, reads or sends."""
