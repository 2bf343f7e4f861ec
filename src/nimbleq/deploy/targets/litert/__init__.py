"""LiteRT (formerly TensorFlow Lite): written without a converter, as the flatbuffer that it reads."""
