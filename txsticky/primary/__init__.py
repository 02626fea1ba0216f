"""The process that accepts and routes connections and keeps the workers running."""
