/* include/uapi/linux/videodev2.h; `rest` is room for what no caller uses, or older headers lack */

struct v4l2_capability {
    uint8_t driver[16];
    uint8_t card[32];
    uint8_t bus_info[32];
    uint32_t version;
    uint32_t capabilities;
    uint32_t device_caps;
    uint32_t reserved[3];
};

struct v4l2_fmtdesc {
    uint32_t index;
    uint32_t type;
    uint32_t flags;
    uint8_t description[32];
    uint32_t pixelformat;
    uint32_t rest[4];
};
struct v4l2_frmsizeenum {
    uint32_t index;
    uint32_t pixel_format;
    uint32_t type;
    uint32_t rest[6]; /* the union of width and height, or struct v4l2_frmsize_stepwise */
    uint32_t reserved[2];
};
struct v4l2_frmsize_stepwise {
    uint32_t min_width;
    uint32_t max_width;
    uint32_t step_width;
    uint32_t min_height;
    uint32_t max_height;
    uint32_t step_height;
};

struct v4l2_pix_format {
    uint32_t width;
    uint32_t height;
    uint32_t pixelformat;
    uint32_t field;
    uint32_t bytesperline;
    uint32_t sizeimage;
    uint32_t colorspace;
    uint32_t priv;
    uint32_t flags;
    uint32_t ycbcr_enc;
    uint32_t quantization;
    uint32_t xfer_func;
};
struct v4l2_plane_pix_format { uint32_t sizeimage; uint32_t bytesperline; uint16_t reserved[6]; };
struct v4l2_pix_format_mplane {
    uint32_t width;
    uint32_t height;
    uint32_t pixelformat;
    uint32_t field;
    uint32_t colorspace;
    struct v4l2_plane_pix_format plane_fmt[8];
    uint8_t num_planes;
    uint8_t flags;
    uint8_t ycbcr_enc;
    uint8_t quantization;
    uint8_t xfer_func;
    uint8_t reserved[7];
};
struct v4l2_format {
    uint32_t type;
    union {
        struct v4l2_pix_format pix;
        struct v4l2_pix_format_mplane pix_mp;
        uint8_t raw_data[200];
        void *pointer; /* as struct v4l2_window has */
    } fmt;
};

struct v4l2_requestbuffers {
    uint32_t count;
    uint32_t type;
    uint32_t memory;
    uint32_t capabilities;
    uint32_t rest;
};
struct v4l2_create_buffers {
    uint32_t index;
    uint32_t count;
    uint32_t memory;
    struct v4l2_format format;
    uint32_t capabilities;
    uint32_t rest[7];
};
struct v4l2_exportbuffer {
    uint32_t type;
    uint32_t index;
    uint32_t plane;
    uint32_t flags;
    int32_t fd;
    uint32_t reserved[11];
};
struct v4l2_plane {
    uint32_t bytesused;
    uint32_t length;
    union { uint32_t mem_offset; unsigned long userptr; int32_t fd; } m;
    uint32_t data_offset;
    uint32_t reserved[11];
};
struct timeval { long tv_sec; long tv_usec; };
struct v4l2_timecode {
    uint32_t type;
    uint32_t flags;
    uint8_t frames;
    uint8_t seconds;
    uint8_t minutes;
    uint8_t hours;
    uint8_t userbits[4];
};
struct v4l2_buffer {
    uint32_t index;
    uint32_t type;
    uint32_t bytesused;
    uint32_t flags;
    uint32_t field;
    struct timeval timestamp;
    struct v4l2_timecode timecode;
    uint32_t sequence;
    uint32_t memory;
    union { uint32_t offset; unsigned long userptr; struct v4l2_plane *planes; int32_t fd; } m;
    uint32_t length;
    uint32_t reserved2;
    int32_t request_fd;
};

struct v4l2_fract { uint32_t numerator; uint32_t denominator; };
struct v4l2_captureparm {
    uint32_t capability;
    uint32_t capturemode;
    struct v4l2_fract timeperframe;
    uint32_t extendedmode;
    uint32_t readbuffers;
    uint32_t reserved[4];
};
struct v4l2_streamparm {
    uint32_t type;
    union { struct v4l2_captureparm capture; uint8_t raw_data[200]; } parm;
};

struct v4l2_input {
    uint32_t index;
    uint8_t name[32];
    uint32_t type;
    uint32_t audioset;
    uint32_t tuner;
    uint64_t std;
    uint32_t status;
    uint32_t capabilities;
    uint32_t reserved[3];
};
struct v4l2_output {
    uint32_t index;
    uint8_t name[32];
    uint32_t type;
    uint32_t audioset;
    uint32_t modulator;
    uint64_t std;
    uint32_t capabilities;
    uint32_t reserved[3];
};
struct v4l2_dv_timings { uint32_t type; uint32_t reserved[32]; }; /* a struct v4l2_bt_timings */
struct v4l2_enum_dv_timings {
    uint32_t index;
    uint32_t pad;
    uint32_t reserved[2];
    struct v4l2_dv_timings timings;
};
struct v4l2_queryctrl {
    uint32_t id;
    uint32_t type;
    uint8_t name[32];
    int32_t minimum;
    int32_t maximum;
    int32_t step;
    int32_t default_value;
    uint32_t flags;
    uint32_t reserved[2];
};
struct v4l2_querymenu { uint32_t id; uint32_t index; uint8_t name[32]; uint32_t reserved; };
struct v4l2_query_ext_ctrl {
    uint32_t id;
    uint32_t type;
    uint8_t name[32];
    int64_t minimum;
    int64_t maximum;
    uint64_t step;
    int64_t default_value;
    uint32_t flags;
    uint32_t elem_size;
    uint32_t elems;
    uint32_t nr_of_dims;
    uint32_t dims[4];
    uint32_t reserved[32];
};
struct v4l2_ext_control {
    uint32_t id;
    uint32_t size;
    uint32_t reserved2[1];
    uint32_t rest[2]; /* the union of the value and the pointers to it, which C packs */
};
struct v4l2_ext_controls {
    uint32_t which;
    uint32_t count;
    uint32_t error_idx;
    int32_t request_fd;
    uint32_t reserved[1];
    struct v4l2_ext_control *controls;
};

struct v4l2_rect { int32_t left; int32_t top; uint32_t width; uint32_t height; };
struct v4l2_selection {
    uint32_t type;
    uint32_t target;
    uint32_t flags;
    struct v4l2_rect r;
    uint32_t reserved[9];
};
struct v4l2_frmivalenum {
    uint32_t index;
    uint32_t pixel_format;
    uint32_t width;
    uint32_t height;
    uint32_t type;
    struct v4l2_fract rest[3]; /* one, or those of a struct v4l2_frmival_stepwise */
    uint32_t reserved[2];
};

struct v4l2_event_subscription {
    uint32_t type;
    uint32_t id;
    uint32_t flags;
    uint32_t reserved[5];
};
struct v4l2_event_ctrl {
    uint32_t changes;
    uint32_t type;
    union { int32_t value; int64_t value64; };
    uint32_t flags;
    int32_t minimum;
    int32_t maximum;
    int32_t step;
    int32_t default_value;
};
struct v4l2_event_src_change { uint32_t changes; };
struct timespec { long tv_sec; long tv_nsec; };
struct v4l2_event {
    uint32_t type;
    union {
        struct v4l2_event_ctrl ctrl;
        struct v4l2_event_src_change src_change;
        uint8_t data[64];
    } u;
    uint32_t pending;
    uint32_t sequence;
    struct timespec timestamp;
    uint32_t id;
    uint32_t reserved[8];
};
struct v4l2_encoder_cmd { uint32_t cmd; uint32_t flags; uint32_t rest[8]; };
struct v4l2_decoder_cmd { uint32_t cmd; uint32_t flags; uint32_t rest[16]; };
