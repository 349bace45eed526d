"""What is supported of CreateDeliveryStream: a stream to S3, as Parquet or as lines of JSON."""

from __future__ import annotations

from infra.contracts.resources import Policy

S3 = "ExtendedS3DestinationConfiguration"
CONVERSION = f"{S3}.DataFormatConversionConfiguration"
PARQUET = f"{CONVERSION}.OutputFormatConfiguration.Serializer.ParquetSerDe"
PARTITIONING = f"{S3}.DynamicPartitioningConfiguration"
ONE_WAY = "a delivery stream leads from a stream to S3: use ExtendedS3DestinationConfiguration"
SOURCE = "the source is a stream: use KinesisStreamSourceConfiguration"

CREATE = Policy(
    honoured=frozenset(
        {
            "DeliveryStreamName",
            "DeliveryStreamType",
            "KinesisStreamSourceConfiguration.KinesisStreamARN",
            f"{S3}.BucketARN",
            f"{S3}.Prefix",
            f"{S3}.ErrorOutputPrefix",
            f"{S3}.BufferingHints",
            f"{S3}.CompressionFormat",
            f"{S3}.FileExtension",
            f"{S3}.ProcessingConfiguration",
            f"{CONVERSION}.Enabled",
            f"{CONVERSION}.InputFormatConfiguration.Deserializer.OpenXJsonSerDe",
            f"{PARQUET}.Compression",
            f"{CONVERSION}.SchemaConfiguration.TableName",
            f"{PARTITIONING}.Enabled",
        }
    ),
    recorded=frozenset(
        {
            "Tags",
            "KinesisStreamSourceConfiguration.RoleARN",
            f"{S3}.RoleARN",
            f"{S3}.CloudWatchLoggingOptions",
            f"{CONVERSION}.SchemaConfiguration.RoleARN",
            f"{CONVERSION}.SchemaConfiguration.CatalogId",
            f"{CONVERSION}.SchemaConfiguration.DatabaseName",
            f"{CONVERSION}.SchemaConfiguration.Region",
            f"{CONVERSION}.SchemaConfiguration.VersionId",
            f"{PARTITIONING}.RetryOptions",
        }
    ),
    refused={
        "DirectPutSourceConfiguration": SOURCE,
        "MSKSourceConfiguration": SOURCE,
        "DatabaseSourceConfiguration": SOURCE,
        "DeliveryStreamEncryptionConfigurationInput": "records lie in Kafka as they were put",
        "S3DestinationConfiguration": ONE_WAY,
        "RedshiftDestinationConfiguration": ONE_WAY,
        "ElasticsearchDestinationConfiguration": ONE_WAY,
        "AmazonopensearchserviceDestinationConfiguration": ONE_WAY,
        "SplunkDestinationConfiguration": ONE_WAY,
        "HttpEndpointDestinationConfiguration": ONE_WAY,
        "AmazonOpenSearchServerlessDestinationConfiguration": ONE_WAY,
        "SnowflakeDestinationConfiguration": ONE_WAY,
        "IcebergDestinationConfiguration": ONE_WAY,
        f"{S3}.EncryptionConfiguration": "objects are stored as they are written",
        f"{S3}.S3BackupMode": "the records themselves stay in the stream",
        f"{S3}.S3BackupConfiguration": "the records themselves stay in the stream",
        f"{S3}.CustomTimeZone": "times are UTC",
        f"{CONVERSION}.InputFormatConfiguration.Deserializer.HiveJsonSerDe": "use OpenXJsonSerDe",
        f"{CONVERSION}.OutputFormatConfiguration.Serializer.OrcSerDe": "use ParquetSerDe",
        f"{PARQUET}.BlockSizeBytes": "an object's size is set by BufferingHints",
        f"{PARQUET}.PageSizeBytes": "an object's size is set by BufferingHints",
        f"{PARQUET}.EnableDictionaryCompression": "columns of text always have dictionaries",
        f"{PARQUET}.MaxPaddingBytes": "it is for HDFS",
        f"{PARQUET}.WriterVersion": "the writer decides",
    },
)
