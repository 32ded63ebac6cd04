"""Distances on the Earth, taken as a sphere: wrong by at most half a per cent."""

import numpy as np
import numpy.typing as npt

EARTH_RADIUS_KM = 6_371.0088
"""Mean radius."""

Degrees = npt.NDArray[np.float64]


def distances_km(points_n2: Degrees, latitude: float, longitude: float) -> Degrees:
    """Distances [n] of points (latitude, longitude) to one, by the haversine formula.

    A point without a place (NaN) has none.
    """
    latitudes, longitudes = np.radians(points_n2[:, 0]), np.radians(points_n2[:, 1])
    there = np.radians(latitude)
    across = np.sin((longitudes - np.radians(longitude)) / 2) ** 2
    upward = np.sin((latitudes - there) / 2) ** 2
    half_chord = np.sqrt(np.minimum(1, upward + np.cos(latitudes) * np.cos(there) * across))
    distances: Degrees = 2 * EARTH_RADIUS_KM * np.arcsin(half_chord)
    return distances
