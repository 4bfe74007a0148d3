"""The devices that export and import buffers."""
