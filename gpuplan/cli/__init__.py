"""What people type and read: arguments, commands, and the renderers of everything that is printed."""
