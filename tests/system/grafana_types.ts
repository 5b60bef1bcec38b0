// The published types of Grafana, joined to the one type that our dashboards must be of.
//
// Grafana's own types leave options, custom field settings and queries open; here they
// are those of the panels and the data source that we use. `Plain` is a type as JSON has it: where
// Grafana's code has a member of an enumeration, JSON has its string. The test's `paths` say which
// files of the packages `timeseries-panel` and `prometheus-query` are.
import type {
  AnnotationQuery,
  AnnotationTarget,
  Dashboard,
  FieldConfig,
  FieldConfigSource,
  Panel,
  RowPanel,
} from '@grafana/schema';
import type {
  FieldConfig as TimeSeriesField,
  Options as TimeSeriesOptions,
} from 'timeseries-panel';
import type { PrometheusDataQuery } from 'prometheus-query';

type Plain<T> = T extends string
  ? `${T}`
  : T extends (infer Item)[]
    ? Plain<Item>[]
    : T extends object
      ? { [Key in keyof T]: Plain<T[Key]> }
      : T;

type TimeSeries = Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'> & {
  type: 'timeseries';
  options: Partial<TimeSeriesOptions>;
  fieldConfig: Omit<FieldConfigSource, 'defaults'> & {
    defaults: Omit<FieldConfig, 'custom'> & { custom: Partial<TimeSeriesField> };
  };
  targets: PrometheusDataQuery[];
};
type Row = Omit<RowPanel, 'type'> & { type: 'row' };

export type Board = Plain<
  Omit<Dashboard, 'panels' | 'annotations'> & {
    panels: (TimeSeries | Row)[];
    annotations: { list: (Omit<AnnotationQuery, 'target'> & { target: AnnotationTarget })[] };
  }
>;
