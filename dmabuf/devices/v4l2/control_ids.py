"""The ids of the controls in the kernel's headers that concern cameras and pictures.

Follows include/uapi/linux/v4l2-controls.h. The kernel's documentation explains them under "User
Controls" and "Camera Control Reference". Those of codecs, tuners and flashes are left out.
"""

from enum import IntEnum


class ControlId(IntEnum):
    """The id of a control (V4L2_CID), which is the same on all devices that have the control.

        device.set_control(v4l2.ControlId.BRIGHTNESS, 128)

    Where a control is expected, any number may be given. These are the kernel's names for some.
    """

    BRIGHTNESS = 0x00980900
    """The picture's brightness, or more precisely its black level."""
    CONTRAST = 0x00980901
    """The picture's contrast, or the gain of luma."""
    SATURATION = 0x00980902
    """The picture's colour saturation, or the gain of chroma."""
    HUE = 0x00980903
    """The balance of hues."""
    AUDIO_VOLUME = 0x00980905
    """The volume of the sound."""
    AUDIO_BALANCE = 0x00980906
    """The balance of left and right."""
    AUDIO_BASS = 0x00980907
    """The strength of low tones."""
    AUDIO_TREBLE = 0x00980908
    """The strength of high tones."""
    AUDIO_MUTE = 0x00980909
    """1 to mute the sound."""
    BLACK_LEVEL = 0x0098090B
    """Deprecated: another name for brightness."""
    AUTO_WHITE_BALANCE = 0x0098090C
    """1 for automatic white balance."""
    DO_WHITE_BALANCE = 0x0098090D
    """A button: balance white now, once."""
    RED_BALANCE = 0x0098090E
    """The share of red in white."""
    BLUE_BALANCE = 0x0098090F
    """The share of blue in white."""
    GAMMA = 0x00980910
    """The exponent of the gamma curve."""
    EXPOSURE = 0x00980911
    """The exposure, in units that the driver defines; see also EXPOSURE_ABSOLUTE."""
    AUTOGAIN = 0x00980912
    """1 for automatic gain."""
    GAIN = 0x00980913
    """The gain of the signal."""
    HFLIP = 0x00980914
    """1 to mirror left and right."""
    VFLIP = 0x00980915
    """1 to mirror top and bottom."""
    POWER_LINE_FREQUENCY = 0x00980918
    """The filter against flicker: a menu of off, 50 Hz, 60 Hz and automatic."""
    HUE_AUTO = 0x00980919
    """1 for automatic hue."""
    WHITE_BALANCE_TEMPERATURE = 0x0098091A
    """The colour temperature of white, in kelvins."""
    SHARPNESS = 0x0098091B
    """The sharpness of edges."""
    BACKLIGHT_COMPENSATION = 0x0098091C
    """The strength of the backlight compensation."""
    CHROMA_AGC = 0x0098091D
    """1 for automatic chroma gain."""
    COLOR_KILLER = 0x0098091E
    """1 for black and white where the colour signal is weak."""
    COLORFX = 0x0098091F
    """A menu of colour effects."""
    AUTOBRIGHTNESS = 0x00980920
    """1 for automatic brightness."""
    BAND_STOP_FILTER = 0x00980921
    """The strength of the filter against flicker; 0 is off."""
    ROTATE = 0x00980922
    """The rotation of the picture, in degrees."""
    BG_COLOR = 0x00980923
    """The colour of the background, 0xRRGGBB."""
    CHROMA_GAIN = 0x00980924
    """The gain of chroma."""
    ILLUMINATORS_1 = 0x00980925
    """1 to switch the first lamp on."""
    ILLUMINATORS_2 = 0x00980926
    """1 to switch the second lamp on."""
    MIN_BUFFERS_FOR_CAPTURE = 0x00980927
    """Read-only: the smallest number of buffers for a capture stream."""
    MIN_BUFFERS_FOR_OUTPUT = 0x00980928
    """Read-only: the smallest number of buffers for an output stream."""
    ALPHA_COMPONENT = 0x00980929
    """The alpha of the pixels, where the format has one."""
    COLORFX_CBCR = 0x0098092A
    """Cb and Cr of the colour effect, 0xBBRR."""
    COLORFX_RGB = 0x0098092B
    """The colour of the colour effect, 0xRRGGBB."""
    EXPOSURE_AUTO = 0x009A0901
    """A menu: whether the device chooses the exposure time, the aperture, both or neither."""
    EXPOSURE_ABSOLUTE = 0x009A0902
    """The exposure time, in units of 100 µs."""
    EXPOSURE_AUTO_PRIORITY = 0x009A0903
    """1 to let automatic exposure lower the frame rate."""
    PAN_RELATIVE = 0x009A0904
    """Turn the camera to the side by this angle, in arc seconds."""
    TILT_RELATIVE = 0x009A0905
    """Turn the camera up or down by this angle, in arc seconds."""
    PAN_RESET = 0x009A0906
    """A button: turn the camera to the middle."""
    TILT_RESET = 0x009A0907
    """A button: turn the camera level."""
    PAN_ABSOLUTE = 0x009A0908
    """The direction of the camera to the side, in arc seconds."""
    TILT_ABSOLUTE = 0x009A0909
    """The direction of the camera up or down, in arc seconds."""
    FOCUS_ABSOLUTE = 0x009A090A
    """The distance of the focus, in units that the driver defines."""
    FOCUS_RELATIVE = 0x009A090B
    """Move the focus by this distance, in units that the driver defines."""
    FOCUS_AUTO = 0x009A090C
    """1 for continuous autofocus."""
    ZOOM_ABSOLUTE = 0x009A090D
    """The focal length of the lens, in units that the driver defines."""
    ZOOM_RELATIVE = 0x009A090E
    """Change the focal length by this amount, in units that the driver defines."""
    ZOOM_CONTINUOUS = 0x009A090F
    """Zoom at this speed until it is set to 0."""
    PRIVACY = 0x009A0910
    """1 to block the view of the camera (privacy)."""
    IRIS_ABSOLUTE = 0x009A0911
    """The aperture, in units that the driver defines."""
    IRIS_RELATIVE = 0x009A0912
    """Change the aperture by this amount, in units that the driver defines."""
    AUTO_EXPOSURE_BIAS = 0x009A0913
    """A menu of exposure compensations, in thousandths of EV."""
    AUTO_N_PRESET_WHITE_BALANCE = 0x009A0914
    """A menu of white balances: automatic, and presets."""
    WIDE_DYNAMIC_RANGE = 0x009A0915
    """1 for wide dynamic range."""
    IMAGE_STABILIZATION = 0x009A0916
    """1 for image stabilization."""
    ISO_SENSITIVITY = 0x009A0917
    """A menu of ISO sensitivities."""
    ISO_SENSITIVITY_AUTO = 0x009A0918
    """A menu: manual or automatic ISO sensitivity."""
    EXPOSURE_METERING = 0x009A0919
    """A menu: which part of the picture decides the exposure."""
    SCENE_MODE = 0x009A091A
    """A menu of scene types."""
    LOCK_3A = 0x009A091B
    """Bits that lock exposure, white balance and focus: V4L2_CID_3A_LOCK."""
    AUTO_FOCUS_START = 0x009A091C
    """A button: focus now, once."""
    AUTO_FOCUS_STOP = 0x009A091D
    """A button: stop focusing."""
    AUTO_FOCUS_STATUS = 0x009A091E
    """Read-only: bits that tell whether autofocus is searching, has succeeded or has failed."""
    AUTO_FOCUS_RANGE = 0x009A091F
    """A menu of the ranges in which autofocus searches."""
    PAN_SPEED = 0x009A0920
    """Turn the camera to the side at this speed until it is set to 0."""
    TILT_SPEED = 0x009A0921
    """Turn the camera up or down at this speed until it is set to 0."""
    CAMERA_ORIENTATION = 0x009A0922
    """Read-only, a menu: the side of the device on which the camera is."""
    CAMERA_SENSOR_ROTATION = 0x009A0923
    """Read-only: the rotation of the mounted sensor, in degrees."""
    HDR_SENSOR_MODE = 0x009A0924
    """A menu of the sensor's HDR modes."""
    JPEG_CHROMA_SUBSAMPLING = 0x009D0901
    """A menu of chroma sub-samplings."""
    JPEG_RESTART_INTERVAL = 0x009D0902
    """The number of MCUs between restart markers; 0 for none."""
    JPEG_COMPRESSION_QUALITY = 0x009D0903
    """The quality, mostly 1 to 100."""
    JPEG_ACTIVE_MARKER = 0x009D0904
    """Bits that tell which markers are written."""
    VBLANK = 0x009E0901
    """The vertical blanking of the sensor, in lines."""
    HBLANK = 0x009E0902
    """The horizontal blanking of the sensor, in pixels."""
    ANALOGUE_GAIN = 0x009E0903
    """The analogue gain of the sensor, in units that the driver defines."""
    TEST_PATTERN_RED = 0x009E0904
    """Red of the test pattern."""
    TEST_PATTERN_GREENR = 0x009E0905
    """Green of the test pattern, in the rows with red."""
    TEST_PATTERN_BLUE = 0x009E0906
    """Blue of the test pattern."""
    TEST_PATTERN_GREENB = 0x009E0907
    """Green of the test pattern, in the rows with blue."""
    UNIT_CELL_SIZE = 0x009E0908
    """Read-only: the size of a sensor cell, in nanometres."""
    NOTIFY_GAINS = 0x009E0909
    """The gains of the Bayer colours, sent to the sensor."""
    LINK_FREQ = 0x009F0901
    """A menu of the frequencies of the link to the sensor, in hertz."""
    PIXEL_RATE = 0x009F0902
    """Read-only: the pixel rate, in pixels per second."""
    TEST_PATTERN = 0x009F0903
    """A menu of test patterns."""
    DEINTERLACING_MODE = 0x009F0904
    """A menu of deinterlacing methods."""
    DIGITAL_GAIN = 0x009F0905
    """The digital gain, in units that the driver defines."""
