"""From any picture a visitor brings to the square RGB image that a model sees."""

from PIL import Image

MAX_PIXELS = 50_000_000  # a 50-megapixel photograph; decoded it takes 150 MB


def to_model_size(image: Image.Image, size: int) -> Image.Image:
    """Resize the short side to `size` (bicubic, antialiased) and crop the centre: RGB, `size` x `size` pixels."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    scale = size / min(width, height)
    resized = (max(round(width * scale), size), max(round(height * scale), size))
    left, top = (resized[0] - size) // 2, (resized[1] - size) // 2
    # Cropped in the same step: a panorama never becomes a huge strip in memory.
    box = (left / scale, top / scale, min((left + size) / scale, width), min((top + size) / scale, height))
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)
